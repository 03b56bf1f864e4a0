package import NIOCore
package import Store

/// Decides which replicas have been silent for long enough to be archived.
///
/// The silence of a replica counts from its last heartbeat, or from its first observation if it had none. It never
/// counts from before the local store became healthy, or from before the replica's files could be read again, because a
/// process whose store fails misses the heartbeats of others.
///
/// Without clock and store: the owner reports each observation and its time.
package struct DeadReplicaDetector: Sendable {
    /// The duration of silence after which a replica is archived.
    package static let limit = TimeAmount.minutes(10)

    /// The time from which on a replica could be observed.
    private var observable: [Incarnation: NIODeadline] = [:]
    private var healthySince: NIODeadline?

    package init() {}

    /// Records what is known of all other replicas.
    ///
    /// - Parameter state: The state of the local store.
    /// - Returns: The replicas to archive.
    package mutating func observe(_ replicas: [ReplicaStatus], state: StoreState, now: NIODeadline) -> [ReplicaStatus] {
        guard state == .healthy else {
            healthySince = nil
            return []
        }
        let since = healthySince ?? now
        healthySince = since
        observable = Dictionary(
            uniqueKeysWithValues: replicas.map { replica in
                let isHidden = replica.problem?.isTransient ?? false
                return (replica.incarnation, isHidden ? now : observable[replica.incarnation] ?? replica.movedAt ?? now)
            }
        )
        return replicas.filter { replica in
            let lastSign = max(replica.movedAt ?? since, observable[replica.incarnation] ?? now)
            return now - max(lastSign, since) > Self.limit
        }
    }
}
