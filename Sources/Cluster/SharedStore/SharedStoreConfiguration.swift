import Files
package import NIOCore
package import Store

/// The location of the store that all replicas share.
package struct SharedStoreConfiguration: Sendable, Equatable {
    package enum Driver: String, Sendable, CaseIterable {
        /// A folder that all replicas mount.
        case volume
        /// The memory of this process, for a single replica. The contents are lost when it exits.
        case memory
    }

    package var driver = Driver.volume
    /// The folder, which need not exist yet.
    package var path: String
    /// The file of a mounted secret with the cluster's keys, of which the first signs. `nil` if the key is in the store.
    package var clusterKeyFile: String?
    /// The time without a heartbeat after which the holder of a lease is considered dead. From 1 s to 5 min, and equal on
    /// all replicas.
    package var leaseTTL = TimeAmount.seconds(15)

    package init(path: String) {
        self.path = path
    }

    /// The folder of the store's contents, whose name is their format.
    package var folder: String { "\(path)/\(Volume.folderName)" }
}

extension SharedStoreConfiguration {
    /// Reads the keys of the mounted secret.
    ///
    /// - Returns: The keys, or `nil` if the key is in the store.
    package func mountedKeys() throws(StoreError) -> [ClusterKey]? {
        try clusterKeyFile.map { path throws(StoreError) in try Self.keys(in: path) }
    }

    static func keys(in path: String) throws(StoreError) -> [ClusterKey] {
        let bytes: [UInt8]
        do {
            bytes = try ConfiguredFile.read(path, limit: ClusterKeyFile.sizeLimit)
        } catch {
            throw StoreError(.denied, path, "cluster_key_file: \(error.reason)")
        }
        return try ClusterKeyFile.parse(bytes, path: path)
    }
}
