package import NIOCore
package import Store

/// Tells which replicas have been silent for long enough to be put away.
///
/// Silence counts from when a replica was heard last, or was seen first if it never was, and in no case from before our
/// own store was well: whoever could not listen knows nothing of the silence of others.
///
/// Sans clock and sans store: the owner says what it saw and when.
package struct DeadReplicaDetector: Sendable {
    /// The dead are put away after this.
    package static let limit = TimeAmount.minutes(10)

    private var firstSeen: [Incarnation: NIODeadline] = [:]
    private var healthySince: NIODeadline?

    package init() {}

    /// To be called after each look at all replicas.
    ///
    /// - Parameters:
    ///   - replicas: what the look found; nil: it failed.
    ///   - state: of our own store.
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
            let heard = replica.movedAt ?? firstSeen[replica.incarnation] ?? now
            return now - max(heard, since) > Self.limit
        }
    }
}
