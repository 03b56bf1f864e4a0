import Synchronization

/// The stage of this process between its start and its end. Written by the process, read on every loop.
package final class Lifecycle: Sendable {
    package enum Stage: UInt8, Comparable, Sendable {
        case starting
        case active
        /// A shutdown has begun: connections are not kept alive and `/readyz` answers 503.
        case draining

        package static func < (left: Stage, right: Stage) -> Bool { left.rawValue < right.rawValue }
    }

    private let current = Atomic<UInt8>(0)

    package init() {}

    package var stage: Stage {
        get { Stage(rawValue: current.load(ordering: .relaxed)) ?? .draining }
        set { current.store(newValue.rawValue, ordering: .relaxed) }
    }

    package var isDraining: Bool { stage == .draining }
}
