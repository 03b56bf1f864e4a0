/// A thread that does one piece of blocking work at once, and again after each interval or ``wake()``.
///
/// Slow storage may block the work for long: nothing waits for it, and neither does ``stop()``. The thread ends when its
/// owner stops or releases this object, once the work that is under way has returned.
package final class PollingThread: Sendable {
    private let core: Core

    /// Starts the thread.
    ///
    /// - Parameters:
    ///   - name: The name of the thread; at most 15 bytes.
    ///   - interval: The time between the end of one run and the start of the next.
    package init(name: String, interval: Duration, body: @escaping @Sendable () -> Void) {
        let core = Core(interval: interval, body: body)
        self.core = core
        startThread(name) { core.run() }
    }

    deinit { stop() }

    /// Starts the next run at once, or after the one that is under way.
    package func wake() { core.wake() }

    /// Prevents further runs. Does not wait for one that is under way.
    package func stop() { core.stop() }

    /// The part that the thread holds, so that it does not keep its owner alive.
    private final class Core: @unchecked Sendable {
        private let interval: UInt64
        private let body: @Sendable () -> Void
        private let condition = ThreadCondition()
        // Guarded by the condition's lock.
        private var isDue = false
        private var isStopped = false

        init(interval: Duration, body: @escaping @Sendable () -> Void) {
            self.interval = interval.clampedNanoseconds
            self.body = body
        }

        func wake() {
            condition.withLock {
                isDue = true
                condition.signal()
            }
        }

        func stop() {
            condition.withLock {
                isStopped = true
                condition.signal()
            }
        }

        func run() {
            while !condition.withLock({ isStopped }) {
                body()
                pause()
            }
        }

        private func pause() {
            let (end, overflow) = uptimeNanoseconds().addingReportingOverflow(interval)
            condition.withLock {
                while !isDue, !isStopped, condition.wait(until: overflow ? .max : end) {}
                isDue = false
            }
        }
    }
}
