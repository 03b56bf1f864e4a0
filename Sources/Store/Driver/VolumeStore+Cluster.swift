package import NIOCore

/// The operations that only a volume supports: the cluster's document and keys, and a quick check of which replicas
/// live.
extension VolumeStore {
    /// Returns the current cluster.json, verified, or `nil` if there is none.
    ///
    /// - Parameter mounted: The keys of a mounted secret, or `nil` if the key is on the volume.
    package func readCluster(mounted: [ClusterKey]?) async throws(StoreError) -> ClusterIdentity? {
        try await perform(on: readers) { volume throws(StoreError) in try volume.readCluster(mounted: mounted) }
    }

    /// Performs one step of a key rotation. The volume checks that the step still fits the current cluster.json.
    ///
    /// - Throws: `conflict` or `exists` if another process has performed a step meanwhile.
    package func changeCluster(
        _ step: @escaping @Sendable (Volume) throws(StoreError) -> ClusterIdentity
    ) async throws(StoreError) -> ClusterIdentity {
        try await perform(on: writer, .write, step)
    }

    /// Reads all heartbeats twice, `interval` apart: a replica whose heartbeat moved is live.
    package func liveness(
        interval: TimeAmount = ReplicaLiveness.interval
    ) async throws(StoreError) -> [ReplicaLiveness] {
        let before = try await perform(on: readers) { volume throws(StoreError) in try volume.heartbeats() }
        // Replicas that have signed off need no second read.
        guard before.values.contains(where: { (try? $0.get().state) != .left }) else {
            return ReplicaLiveness.compare(before, before)
        }
        try await sleep(until: .now() + interval)
        let after = try await perform(on: readers) { volume throws(StoreError) in try volume.heartbeats() }
        return ReplicaLiveness.compare(before, after)
    }
}
