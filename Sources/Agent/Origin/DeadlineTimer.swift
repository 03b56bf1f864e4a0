package import NIOCore

/// One timer for all deadlines of an event loop, to which it is confined.
///
/// The timer is set for the earliest deadline and never cancelled; when it fires, its owner polls all of its deadlines.
/// A request therefore needs no timer of its own: it usually ends long before the timer fires.
package final class DeadlineTimer {
    /// The least time between two firings, so that many close deadlines are polled together.
    private static let granularity = TimeAmount.milliseconds(50)

    let loop: any EventLoop
    /// Polls all deadlines with the current time, and returns the earliest one that has not passed, or `.distantFuture`
    /// if there is none. Set once, by the owner.
    package var onFire: (NIODeadline) -> NIODeadline = { _ in .distantFuture }
    private var nextFiring = NIODeadline.distantFuture

    package init(loop: any EventLoop) { self.loop = loop }

    /// Ensures that the timer fires soon after `deadline`.
    package func schedule(by deadline: NIODeadline) {
        guard deadline < nextFiring else { return }
        let firing = max(deadline, loop.now + Self.granularity)
        // Close deadlines that keep arriving must not postpone the firing that is scheduled.
        guard firing < nextFiring else { return }
        nextFiring = firing
        loop.assumeIsolated().scheduleTask(deadline: firing) { self.fire(scheduledFor: firing) }
    }

    private func fire(scheduledFor scheduled: NIODeadline) {
        // A later firing has been superseded by an earlier one.
        guard scheduled == nextFiring else { return }
        nextFiring = .distantFuture
        let earliest = onFire(loop.now)
        if earliest != .distantFuture { schedule(by: earliest) }
    }
}
