package import NIOCore

/// What only a volume has: the cluster's document and keys, and a quick look at who lives.
extension VolumeStore {
    /// What cluster.json says now, if it is genuine; nil if there is none.
    ///
    /// - Parameter mounted: the keys of a mounted secret.
    package func readCluster(mounted: [ClusterKey]?) async throws(StoreError) -> ClusterIdentity? {
        try await perform(on: readers) { volume throws(StoreError) in try volume.readCluster(mounted: mounted) }
    }

    /// Does one step of a rotation. The volume judges whether the step still fits what cluster.json says: `conflict` and
    /// `exists` mean that somebody else took one meanwhile.
    package func changeCluster(
        _ step: @escaping @Sendable (Volume) throws(StoreError) -> ClusterIdentity
    ) async throws(StoreError) -> ClusterIdentity {
        try await perform(on: writer, .write, step)
    }

    /// Looks at all heartbeats twice: whose moved is alive. Takes as long as `patience`.
    package func vitals(
        patience: TimeAmount = ReplicaVitals.patience
    ) async throws(StoreError) -> [ReplicaVitals] {
        let before = try await perform(on: readers) { volume throws(StoreError) in try volume.heartbeats() }
        // Those who said goodbye need no second look.
        guard before.values.contains(where: { $0?.state != .left }) else {
            return ReplicaVitals.compare(before, before)
        }
        try await sleep(until: .now() + patience)
        let after = try await perform(on: readers) { volume throws(StoreError) in try volume.heartbeats() }
        return ReplicaVitals.compare(before, after)
    }
}
