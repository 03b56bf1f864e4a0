internal import DequeModule
internal import NIOCore

/// Threads that do blocking jobs in order. The store's writer is a line of one thread which is never replaced; its readers
/// are a line that grows when threads hang, and shrinks when they come back.
///
/// Nothing waits for a line: who submits a job hears of it later, or of nothing.
final class BlockingWorkQueue: @unchecked Sendable {
    /// A job that nobody took up for so long gets a further thread.
    static let patience = TimeAmount.milliseconds(250)

    private struct Job {
        var body: @Sendable () -> Void
        var submitted: NIODeadline
    }

    private let name: String
    private let usual: Int
    private let limit: Int
    private let queueLimit: Int
    private let signal = ThreadCondition()
    // All below belong to whoever holds the signal's lock.
    private var queue = Deque<Job>()
    private var threads = 0
    private var idle = 0
    private var isClosed = false

    /// - Parameters:
    ///   - usual: threads that stay.
    ///   - limit: threads at most, hung ones included.
    ///   - queueLimit: jobs that may wait.
    init(name: String, usual: Int, limit: Int, queueLimit: Int) {
        self.name = name
        self.usual = usual
        self.limit = limit
        self.queueLimit = queueLimit
    }

    /// False: too many wait, or the line is closed; the job will not be done.
    func submit(_ body: @escaping @Sendable () -> Void) -> Bool {
        let accepted = signal.withLock { () -> (taken: Bool, starts: Bool) in
            guard !isClosed, queue.count < queueLimit else { return (false, false) }
            queue.append(Job(body: body, submitted: .now()))
            signal.wakeOne()
            let starts = idle < queue.count && threads < usual
            if starts { threads += 1 }
            return (true, starts)
        }
        if accepted.starts { start() }
        return accepted.taken
    }

    /// To be called a few times a second: adds a thread if jobs wait because all threads hang.
    func growIfStuck(now: NIODeadline) {
        let starts = signal.withLock { () -> Bool in
            guard let first = queue.first, now - first.submitted > Self.patience, idle == 0, threads < limit, !isClosed
            else { return false }
            threads += 1
            return true
        }
        if starts { start() }
    }

    /// Jobs that wait are dropped; threads end when their job returns.
    func close() {
        signal.withLock {
            isClosed = true
            queue.removeAll()
            signal.wakeAll()
        }
    }

    var threadCount: Int { signal.withLock { threads } }

    private func start() {
        startThread(name) { [self] in run() }
    }

    private func run() {
        while let body = next() { body() }
    }

    /// Waits for a job; nil: this thread is one too many.
    private func next() -> (@Sendable () -> Void)? {
        signal.withLock {
            while true {
                if isClosed || (queue.isEmpty && threads > usual) {
                    threads -= 1
                    return nil
                }
                if let job = queue.popFirst() { return job.body }
                idle += 1
                _ = signal.wait(until: nil)
                idle -= 1
            }
        }
    }
}
