package import NIOCore

/// The scheduled NIO callbacks, which are never cancelled (NIO's cancellation searches linearly).
///
/// A new callback is scheduled only when it must come before all scheduled ones. They therefore form a stack with the
/// earliest on top, and a deadline that keeps moving later costs nothing. A callback that comes too early finds nothing
/// due, which is harmless.
package struct WakeUpStack {
    /// The deadlines in descending order: the earliest is last.
    private var scheduled: [NIODeadline] = []

    package init() {}

    package var count: Int { scheduled.count }

    /// Returns whether a callback must be scheduled so that one comes at `deadline` or before. If so the callback is
    /// recorded as scheduled.
    package mutating func needsCallback(at deadline: NIODeadline) -> Bool {
        if let earliest = scheduled.last, earliest <= deadline { return false }
        scheduled.append(deadline)
        return true
    }

    /// Records that a callback has come. Removes it and all others that are due by now; those will find nothing to do.
    package mutating func callbackArrived(now: NIODeadline) {
        while let earliest = scheduled.last, earliest <= now {
            scheduled.removeLast()
        }
    }
}
