/// A thread that calls closures when they are due.
///
/// The closures have to be short and must not touch files: what they wait for delays all others.
package final class TimerThread: @unchecked Sendable {
    private let condition = ThreadCondition()
    // Guarded by the condition's lock.
    private var timers: [UInt64: (due: UInt64, body: @Sendable () -> Void)] = [:]
    private var earliest: UInt64?
    private var lastNumber: UInt64 = 0
    private var isStarted = false
    private var isClosed = false
    private let name: String
    private let starter: ThreadStarter

    /// - Parameter name: The name of the thread; at most 15 bytes.
    package init(name: String, starter: @escaping ThreadStarter = startThread) {
        self.name = name
        self.starter = starter
    }

    /// Starts the thread, which runs until ``close()``, unless it has been started before.
    /// ``schedule(uptimeNanoseconds:_:)`` does it as well.
    ///
    /// - Returns: `false` if the system has no thread left. No call is made before a later attempt succeeds.
    @discardableResult
    package func start() -> Bool {
        let starts = condition.withLock {
            defer { isStarted = true }
            return !isStarted && !isClosed
        }
        guard starts, !starter(name, { [self] in run() }) else { return true }
        condition.withLock { isStarted = false }
        return false
    }

    /// Schedules a call. After ``close()`` it does nothing.
    ///
    /// - Parameter due: The uptime of the call.
    /// - Returns: A number for ``cancel(_:)``.
    @discardableResult
    package func schedule(uptimeNanoseconds due: UInt64, _ body: @escaping @Sendable () -> Void) -> UInt64 {
        start()
        return condition.withLock {
            lastNumber += 1
            guard !isClosed else { return lastNumber }
            timers[lastNumber] = (due, body)
            if earliest.map({ due < $0 }) ?? true {
                earliest = due
                condition.signal()
            }
            return lastNumber
        }
    }

    /// Removes a scheduled call. Does nothing if it has been made or is being made.
    package func cancel(_ number: UInt64) {
        // Released outside the lock: the closure may hold the last reference to something that cancels a timer itself.
        let removed = condition.withLock { timers.removeValue(forKey: number) }
        _ = removed
    }

    /// Drops all scheduled calls and ends the thread.
    package func close() {
        let dropped = condition.withLock {
            isClosed = true
            defer { timers = [:] }
            condition.signal()
            return timers
        }
        _ = dropped
    }

    private func run() {
        while let due = waitForDue() {
            for body in due { body() }
        }
    }

    /// - Returns: The closures that are due, in the order of their times, or `nil` after ``close()``.
    private func waitForDue() -> [@Sendable () -> Void]? {
        condition.withLock {
            while !isClosed {
                let now = uptimeNanoseconds()
                if let earliest, earliest <= now {
                    let due = timers.filter { $0.value.due <= now }
                    for number in due.keys { timers[number] = nil }
                    self.earliest = timers.values.lazy.map(\.due).min()
                    // Empty if the earliest timer was cancelled.
                    if !due.isEmpty { return due.sorted { $0.value.due < $1.value.due }.map(\.value.body) }
                } else {
                    condition.wait(until: earliest)
                }
            }
            return nil
        }
    }
}
