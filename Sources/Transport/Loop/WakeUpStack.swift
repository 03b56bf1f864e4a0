package import NIOCore

/// The NIO callbacks that are on their way, none of which is ever cancelled (NIO's cancel searches linearly).
///
/// A new one is asked for only when it must come before all of those, so they form a stack with the earliest on top and
/// a deadline that keeps moving away costs nothing. A callback that comes too early finds nothing due: no harm.
package struct WakeUpStack {
    /// Descending: the earliest is last.
    private var scheduled: [NIODeadline] = []

    package init() {}

    package var count: Int { scheduled.count }

    /// Whether a callback must be scheduled so that one comes at `deadline` or before. If so it counts as scheduled.
    package mutating func needsCallback(at deadline: NIODeadline) -> Bool {
        if let earliest = scheduled.last, earliest <= deadline { return false }
        scheduled.append(deadline)
        return true
    }

    /// A callback came: forgets it, and any other that is due by now and will find nothing to do.
    package mutating func callbackArrived(now: NIODeadline) {
        while let earliest = scheduled.last, earliest <= now {
            scheduled.removeLast()
        }
    }
}
