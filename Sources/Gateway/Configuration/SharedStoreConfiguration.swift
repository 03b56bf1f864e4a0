import Certificates
package import NIOCore
package import Store

/// Where the replicas keep what they share.
package struct SharedStoreConfiguration: Sendable, Equatable {
    package enum Driver: String, Sendable, CaseIterable {
        /// A folder that all replicas mount.
        case volume
        /// The memory of this process: one replica, nothing survives it.
        case memory
    }

    package var driver = Driver.volume
    /// The folder; it may not exist yet.
    package var path: String
    /// A mounted secret with the cluster's keys, the first of which signs; nil: the key is in the store.
    package var clusterKeyFile: String?
    /// After so long without a sign of life a holder of a lease is taken for dead. 1 s to 5 min, the same on every
    /// replica.
    package var leaseTTL = TimeAmount.seconds(15)

    package init(path: String) {
        self.path = path
    }
}

extension SharedStoreConfiguration {
    /// The keys of the mounted secret; nil: the key is in the store.
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
