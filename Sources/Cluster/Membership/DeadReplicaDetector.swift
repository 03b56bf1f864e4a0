package import NIOCore
package import Store

/// Decides which replicas have been silent for long enough to be archived.
///
/// The silence of a replica counts from its last heartbeat, or from its first observation if it had none. It never counts
/// from before the local store became healthy, because a process whose store fails misses the heartbeats of others.
///
/// Without clock and store: the owner reports each observation and its time.
package struct DeadReplicaDetector: Sendable {
    /// The duration of silence after which a replica is archived.
    package static let limit = TimeAmount.minutes(10)

    private var firstSeen: [Incarnation: NIODeadline] = [:]
    private var healthySince: NIODeadline?

    package init() {}

    /// Records the result of one poll of all replicas.
    ///
    /// - Parameters:
    ///   - replicas: The replicas that were found, or `nil` if the poll failed.
    ///   - state: The state of the local store.
    /// - Returns: The replicas to archive.
    package mutating func observe(_ replicas: [ReplicaStatus]?, state: StoreState, now: NIODeadline) -> [ReplicaStatus]
    {
        guard let replicas, state == .healthy else {
            healthySince = nil
            return []
        }
        let since = healthySince ?? now
        healthySince = since
        firstSeen = Dictionary(
            uniqueKeysWithValues: replicas.map { ($0.incarnation, firstSeen[$0.incarnation] ?? now) }
        )
        return replicas.filter { replica in
            let lastSign = replica.movedAt ?? firstSeen[replica.incarnation] ?? now
            return now - max(lastSign, since) > Self.limit
        }
    }
}
