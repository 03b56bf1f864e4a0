import Synchronization

/// The limit that the system sets to the threads of a process, a user or a container.
package enum ThreadLimit {
    /// The reason and the remedy, for the error of a call that needed a thread.
    package static let message = "no thread could be started; \(remedy)"
    package static let remedy =
        "raise the limit of processes and threads (ulimit -u of the user, pids of the container)"

    /// The number of threads of this process that could not be started.
    package static var failureCount: Int { failures.load(ordering: .relaxed) }
    private static let failures = Atomic<Int>(0)

    static func recordFailure() { failures.wrappingAdd(1, ordering: .relaxed) }

    /// Whether so many more threads can exist now. Starts them together and waits for their end, so that a program that
    /// needs them can report the problem before it depends on threads that it cannot start safely.
    package static func allows(_ count: Int, start: ThreadStarter = startThread) -> Bool {
        let trial = Trial()
        defer { trial.end() }
        return (0..<count).allSatisfy { _ in
            trial.enter()
            let isStarted = start("thread-limit") {
                trial.wait()
                trial.leave()
            }
            if !isStarted { trial.leave() }
            return isStarted
        }
    }

    /// Threads that exist together until all have been started.
    private final class Trial: @unchecked Sendable {
        private let condition = ThreadCondition()
        // Guarded by the condition's lock.
        private var isOver = false
        private var threads = 0

        func enter() { condition.withLock { threads += 1 } }

        func leave() {
            condition.withLock {
                threads -= 1
                condition.broadcast()
            }
        }

        func wait() {
            condition.withLock { while !isOver { condition.wait() } }
        }

        func end() {
            condition.withLock {
                isOver = true
                condition.broadcast()
                while threads > 0 { condition.wait() }
            }
        }
    }
}
