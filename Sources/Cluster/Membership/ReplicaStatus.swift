package import NIOCore
package import Store

/// The state of a replica as this process observes it.
package struct ReplicaStatus: Sendable {
    /// The age above which a heartbeat is no sign of life any more, provided that the local store works.
    package static let stale = TimeAmount.seconds(5)

    package let incarnation: Incarnation
    /// The description of the replica, or `nil` while it cannot be read or is not genuine.
    package var info: ReplicaInfo?
    /// The content of the last heartbeat, or `nil` if none was read.
    package var status: MemberStatus?
    /// The changes of other replicas that it has acted on.
    package var seen = Mark()
    /// The time at which the heartbeat last moved, on the monotonic clock of this process.
    package var movedAt: NIODeadline?
    package var problem: StoreError?
    /// The sealed description, which may be genuine with the next keys.
    var sealedInfo: [UInt8]?

    package init(incarnation: Incarnation) {
        self.incarnation = incarnation
    }

    package func isLive(now: NIODeadline) -> Bool {
        guard let status, status.state != .left, let movedAt else { return false }
        return now - movedAt < Self.stale
    }

    mutating func openInfo(with keyring: ClusterKeyring) {
        guard let sealedInfo else { return }
        do throws(StoreError) {
            info = try ReplicaInfo(sealedInfo, of: incarnation, with: keyring)
        } catch {
            problem = error
        }
    }
}
