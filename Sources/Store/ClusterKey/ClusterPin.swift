import Synchronization

/// The cluster whose volume alone a process writes to, and whose listings alone it believes.
///
/// A volume may be mounted over the folder, or unmounted from it, while the process runs. What stands at the path then
/// is another cluster's store, or none.
private final class ClusterPin: VolumeVerification {
    private let cluster: String
    /// The path of the signing key, whose random name no other volume has; one call verifies it. It is missing if
    /// the keys are mounted.
    private let keyFile: Mutex<String>

    init(_ cluster: ClusterIdentity) {
        self.cluster = cluster.id
        keyFile = Mutex(Self.keyFile(cluster.keyring.signing.id))
    }

    /// - Throws: `gone` if the store is another cluster's, or that of none. The process goes on with what it knows
    ///   until its volume is back.
    func verify(_ volume: Volume) throws(StoreError) {
        if (try? volume.files.status(keyFile.withLock { $0 })) != nil { return }
        let key = ClusterDocument.key
        guard let stored = try volume.value(of: volume.newest(key, fresh: true), key) else {
            throw StoreError(
                .gone,
                volume.files.root,
                "has no cluster any more, and this process belongs to \(cluster); mount the volume again"
            )
        }
        let found = try ClusterDocument(stored.bytes, place: volume.displayPath(key.path))
        guard found.cluster == cluster else {
            throw StoreError(
                .gone,
                volume.files.root,
                "belongs to cluster \(found.cluster) now, and this process to \(cluster): nothing is written to it; "
                    + "mount the previous volume, or restart this process to join the other cluster"
            )
        }
        // A rotation has retired the key.
        keyFile.withLock { $0 = Self.keyFile(found.keys[0]) }
    }

    private static func keyFile(_ id: String) -> String { "\(ClusterDocument.keyFolder)/\(id)" }
}

extension Volume {
    /// Limits all further writes, watches and observations to the volume of this cluster.
    package func pin(to cluster: ClusterIdentity) {
        let pin = ClusterPin(cluster)
        verification.withLock { $0 = pin }
    }
}
