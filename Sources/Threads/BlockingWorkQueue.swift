import DequeModule

/// A queue of blocking jobs that are run by its own threads and start in the order of their submission.
///
/// A queue whose limit is its usual number of threads never replaces a thread that hangs; one with a higher limit adds
/// threads while jobs wait for longer than its patience, and ends them when no job is left. The first thread that is
/// added adds the next one, so that the limit is reached at once if the others wait as long. Submitting never waits. A
/// job reports its result itself.
package final class BlockingWorkQueue: @unchecked Sendable {
    /// The usual time for which a job waits for a thread before one is added.
    package static let patience = Duration.milliseconds(250)

    private struct Job {
        var number: UInt64
        var body: @Sendable () -> Void
        var submitted: UInt64
    }

    private let name: String
    private let usual: Int
    private let limit: Int
    private let queueLimit: Int
    private let patience: UInt64
    private let starter: ThreadStarter
    private let condition = ThreadCondition()
    // Guarded by the condition's lock.
    private var queue = Deque<Job>()
    private var threads = 0
    private var idle = 0
    private var lastNumber: UInt64 = 0
    private var isClosed = false

    /// - Parameters:
    ///   - name: The name of the threads; at most 15 bytes.
    ///   - usual: The number of threads that stay. They are started as jobs need them.
    ///   - limit: The highest number of threads, including those that hang.
    ///   - queueLimit: The highest number of waiting jobs.
    ///   - patience: The time for which a job waits for a thread before one is added.
    package init(
        name: String,
        usual: Int,
        limit: Int,
        queueLimit: Int,
        patience: Duration = patience,
        starter: @escaping ThreadStarter = startThread
    ) {
        self.name = name
        self.usual = usual
        self.limit = limit
        self.queueLimit = queueLimit
        self.patience = UInt64(patience.clampedNanoseconds)
        self.starter = starter
    }

    /// Appends a job.
    ///
    /// - Returns: `false` if the queue is full or closed, or has no thread and none could be started. The job is not
    ///   performed.
    package func submit(_ body: @escaping @Sendable () -> Void) -> Bool {
        let (number, starts) = condition.withLock { () -> (UInt64?, Bool) in
            guard !isClosed, queue.count < queueLimit else { return (nil, false) }
            lastNumber += 1
            queue.append(Job(number: lastNumber, body: body, submitted: uptimeNanoseconds()))
            condition.signal()
            let starts = idle < queue.count && threads < usual
            if starts { threads += 1 }
            return (lastNumber, starts)
        }
        guard let number else { return false }
        return !starts || start() || withdraw(number)
    }

    /// Removes a job that no thread would perform.
    ///
    /// - Returns: `false` if it was removed.
    private func withdraw(_ number: UInt64) -> Bool {
        condition.withLock {
            guard threads == 0, let index = queue.firstIndex(where: { $0.number == number }) else { return true }
            queue.remove(at: index)
            return false
        }
    }

    /// Adds a thread if no thread is idle and the first job has waited for longer than the patience. The owner calls it
    /// a few times per second, which also repeats a start that failed.
    ///
    /// - Parameter now: The current uptime.
    package func growIfStuck(uptimeNanoseconds now: UInt64) {
        let starts = condition.withLock { () -> Bool in
            guard let first = queue.first, now > first.submitted, now - first.submitted > patience,
                idle == 0, threads < limit, !isClosed
            else { return false }
            threads += 1
            return true
        }
        if starts { _ = start() }
    }

    /// Drops the waiting jobs and refuses new ones. Each thread ends when its job returns.
    package func close() {
        let dropped = condition.withLock { () -> Deque<Job> in
            isClosed = true
            defer { queue = [] }
            condition.broadcast()
            return queue
        }
        // Released outside the lock: a job may hold the last reference to something that submits jobs itself.
        _ = dropped
    }

    /// The number of threads, including those that hang.
    package var threadCount: Int { condition.withLock { threads } }

    /// Starts a thread that is counted already.
    private func start() -> Bool {
        if starter(name, { [self] in run() }) { return true }
        condition.withLock { threads -= 1 }
        return false
    }

    private func run() {
        while let body = next() {
            growIfStuck(uptimeNanoseconds: uptimeNanoseconds())
            body()
        }
    }

    /// Waits for a job.
    ///
    /// - Returns: `nil` if the thread has to end: the queue is closed, or has more threads than usual and no job.
    private func next() -> (@Sendable () -> Void)? {
        condition.withLock {
            while true {
                if isClosed || (queue.isEmpty && threads > usual) {
                    threads -= 1
                    return nil
                }
                if let job = queue.popFirst() { return job.body }
                idle += 1
                condition.wait()
                idle -= 1
            }
        }
    }
}
