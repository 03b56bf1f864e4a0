package import NIOCore
package import Store

/// The state of a replica as this process observes it.
package struct ReplicaStatus: Sendable {
    package let incarnation: Incarnation
    /// The description of the replica, or `nil` while it cannot be read or is not genuine.
    package var info: ReplicaInfo?
    package var heartbeat: Heartbeat?
    /// The time at which the heartbeat last moved, on the monotonic clock of this process.
    package var movedAt: NIODeadline?
    package var problem: StoreError?

    package init(incarnation: Incarnation) {
        self.incarnation = incarnation
    }
}
