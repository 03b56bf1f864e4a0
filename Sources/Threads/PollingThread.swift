/// A thread that does one piece of blocking work at once, and again after each interval or ``wake()``.
///
/// Slow storage may block the work for long: nothing waits for it, and neither does ``stop()``. A thread that hangs is
/// not replaced. It ends when its owner stops or releases this object, once the work that is under way has returned.
package final class PollingThread: Sendable {
    private let name: String
    private let core: Core
    private let starter: ThreadStarter

    /// - Parameters:
    ///   - name: The name of the thread; at most 15 bytes.
    ///   - interval: The time between the end of one run and the start of the next.
    package init(
        name: String,
        interval: Duration,
        starter: @escaping ThreadStarter = startThread,
        body: @escaping @Sendable () -> Void
    ) {
        self.name = name
        self.starter = starter
        core = Core(interval: interval, body: body)
    }

    deinit { stop() }

    /// Starts the thread, unless it has been started before.
    ///
    /// - Returns: `false` if the system has no thread left; the owner calls this again later.
    package func start() -> Bool {
        guard core.begin() else { return true }
        if starter(name, { [core] in core.run() }) { return true }
        core.abandon()
        return false
    }

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
        private var isStarted = false
        private var isDue = false
        private var isStopped = false

        init(interval: Duration, body: @escaping @Sendable () -> Void) {
            self.interval = interval.clampedNanoseconds
            self.body = body
        }

        /// - Returns: Whether the caller has to start the thread.
        func begin() -> Bool {
            condition.withLock {
                defer { isStarted = true }
                return !isStarted && !isStopped
            }
        }

        func abandon() { condition.withLock { isStarted = false } }

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
