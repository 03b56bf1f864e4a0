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
    /// The reason why the heartbeat cannot be read, or `nil`.
    package var readProblem: StoreError?
    /// The reason why the description cannot be read or is not genuine, or `nil`.
    package private(set) var infoProblem: StoreError?
    /// The sealed description, which may be genuine with the next keys.
    private var sealedInfo: [UInt8]?

    package init(incarnation: Incarnation) {
        self.incarnation = incarnation
    }

    package func isLive(now: NIODeadline) -> Bool {
        guard let status, status.state != .left, let movedAt else { return false }
        return now - movedAt < Self.stale
    }

    package var problem: StoreError? { readProblem ?? infoProblem }

    /// Returns the problem to report of a replica in this state. The description of one that has left or is dead is of
    /// no use, and the key that has sealed it may be retired.
    package func problem(in state: ReplicaCounts.State) -> StoreError? {
        state == .left || state == .dead ? readProblem : problem
    }

    /// Records the description as it was read. An earlier one stays in use if this one cannot be used.
    package mutating func record(info: Result<[UInt8], StoreError>, with keyring: ClusterKeyring) {
        switch info {
        case .success(let sealed):
            sealedInfo = sealed
            openInfo(with: keyring)
        case .failure(let error): (sealedInfo, infoProblem) = (nil, error)
        }
    }

    /// Verifies the description, which may be genuine only with the keys of this keyring.
    package mutating func openInfo(with keyring: ClusterKeyring) {
        guard let sealedInfo else { return }
        do throws(StoreError) {
            info = try ReplicaInfo(sealedInfo, of: incarnation, with: keyring)
            infoProblem = nil
        } catch {
            infoProblem = error
        }
    }
}
