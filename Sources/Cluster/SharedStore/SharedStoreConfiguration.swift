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
    /// Whether the operator has named the folder. Commands found no cluster in a folder that is only the default.
    package var isPathExplicit = true
    /// The id of the only cluster that may be used, which is never founded; `nil` to accept and found any.
    package var cluster: String?
    /// The file of a mounted secret with the cluster's keys, of which the first signs. `nil` if the key is in the
    /// store.
    package var clusterKeyFile: String?
    /// The time without a heartbeat after which the holder of a lease is considered dead. From 1 s to 5 min, and equal
    /// on all replicas.
    package var leaseTTL = TimeAmount.seconds(15)

    package init(path: String) {
        self.path = path
    }

    /// The folder of the store's contents, whose name is their format.
    package var folder: String { "\(path)/\(VolumeStore.folderName)" }
}

extension SharedStoreConfiguration {
    /// Reads the keys of the mounted secret on a thread of its own, since a mounted secret may hang like any volume.
    ///
    /// - Returns: The keys, or `nil` if the key is in the store.
    package func mountedKeys() async throws(StoreError) -> [ClusterKey]? {
        guard let path = clusterKeyFile else { return nil }
        return try await onThread("cluster-key", deadline: .seconds(10), place: path) { () throws(StoreError) in
            try Self.keys(in: path)
        }
    }

    /// Verifies that a store is that of the configured cluster, if one is configured.
    package func require(_ found: String) throws(StoreError) {
        guard let cluster, cluster != found else { return }
        throw StoreError(
            .foreign,
            path,
            "belongs to cluster \(found), but store.cluster names \(cluster); mount the right volume, "
                + "or correct the setting"
        )
    }

    /// Verifies that a backup is that of the configured cluster, if one is configured.
    ///
    /// - Parameter place: The location of the backup for messages.
    package func require(_ backup: Backup, at place: String) throws(StoreError) {
        guard let cluster, cluster != backup.cluster else { return }
        throw StoreError(
            .foreign,
            place,
            "is a backup of cluster \(backup.cluster), but store.cluster names \(cluster); restore a backup of that "
                + "cluster, or correct the setting"
        )
    }

    /// Whether an error of opening an existing store means that a start founds a cluster.
    package func isUnfounded(_ error: StoreError) -> Bool {
        error.code == .notFound && error.place == folder && cluster == nil
    }

    /// Verifies what a start requires of the folder of the store, without creating it or changing anything in it.
    ///
    /// - Parameter isFounding: Whether the start founds a cluster, which it does if there is none.
    package func requireStartable(isFounding: Bool) async throws(StoreError) {
        let folder = folder
        do throws(StoreError) {
            try await onThread("store-opener", deadline: .seconds(10), place: folder) { () throws(StoreError) in
                try Volume.requireStartable(folder, isFounding: isFounding)
            }
        } catch {
            throw explained(error)
        }
    }

    /// Returns an error of opening the store. If the default folder cannot be created, the error says that it is the
    /// default one, since the operator has not named it.
    package func explained(_ error: StoreError) -> StoreError {
        guard !isPathExplicit, error.code == .denied, error.fault == nil, error.place == path else { return error }
        return StoreError(error.code, path, "is the default store.path, which \(error.reason)")
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
