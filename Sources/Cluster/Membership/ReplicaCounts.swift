package import NIOCore
import Store

/// The number of replicas in each state.
package struct ReplicaCounts: Equatable, Sendable {
    package enum State: String, CaseIterable, Sendable {
        case starting
        case active
        case draining
        /// The replica has shut down and recorded it in its last heartbeat.
        case left
        /// The heartbeat has stopped, or cannot be read.
        case dead
    }

    package private(set) var counts: [State: Int]

    package init(_ replicas: [ReplicaStatus], now: NIODeadline) {
        counts = Dictionary(uniqueKeysWithValues: State.allCases.map { ($0, 0) })
        for replica in replicas { counts[Self.state(of: replica, now: now), default: 0] += 1 }
    }

    /// The number of replicas with a moving heartbeat.
    package var live: Int {
        counts.reduce(0) { $1.key == .left || $1.key == .dead ? $0 : $0 + $1.value }
    }

    package static func state(of replica: ReplicaStatus, now: NIODeadline) -> State {
        if replica.status?.state == .left { return .left }
        guard replica.isLive(now: now) else { return .dead }
        return switch replica.status?.state {
        case .starting: .starting
        case .draining: .draining
        default: .active
        }
    }
}
