import Glibc
import Synchronization

/// Writes lines to a descriptor on a thread of its own, so that no event loop ever waits for a pipe or a disk.
///
/// Lines are collected in memory, at most ``capacity`` bytes of them, and leave in large writes. A line that finds no
/// room is dropped and counted; once there is room again one line says how many were lost. A descriptor that cannot be
/// written discards what was collected, counted in the same way: the process goes on without its log.
///
/// `@unchecked`: what the lock guards is touched under it only, see `State`.
package final class LineWriter: @unchecked Sendable {
    /// Bytes that may wait, without those being written.
    package let capacity: Int

    private let descriptor: Int32
    private let dropNotice: @Sendable (_ dropped: Int) -> [UInt8]
    private let droppedLines = Atomic<Int>(0)

    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    /// Signalled when lines arrive for an idle thread, or the end.
    private let arrived: UnsafeMutablePointer<pthread_cond_t>
    /// Signalled when everything taken was written.
    private let drained: UnsafeMutablePointer<pthread_cond_t>
    private var state = State()

    /// Guarded by `lock`.
    private struct State {
        var pending: [UInt8] = []
        /// Dropped since the last notice.
        var unreported = 0
        var isWriting = false
        var isWaiting = false
        var isStopping = false
        var hasStopped = false
    }

    /// Starts the thread. It lives until ``stop(timeout:)``; the descriptor stays the caller's and stays open.
    ///
    /// - Parameter dropNotice: makes the line, newline included, that tells of dropped lines.
    package init(
        descriptor: Int32,
        capacity: Int = 4 << 20,
        dropNotice: @escaping @Sendable (_ dropped: Int) -> [UInt8]
    ) {
        self.descriptor = descriptor
        self.capacity = capacity
        self.dropNotice = dropNotice
        self.lock = .allocate(capacity: 1)
        self.arrived = .allocate(capacity: 1)
        self.drained = .allocate(capacity: 1)
        pthread_mutex_init(self.lock, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(self.arrived, &attributes)
        pthread_cond_init(self.drained, &attributes)
        pthread_condattr_destroy(&attributes)
        self.startThread()
    }

    /// Only reached after the thread has ended: it holds a reference while it runs.
    deinit {
        pthread_cond_destroy(self.arrived)
        pthread_cond_destroy(self.drained)
        pthread_mutex_destroy(self.lock)
        self.arrived.deallocate()
        self.drained.deallocate()
        self.lock.deallocate()
    }

    /// Lines lost since the start.
    package var dropped: Int { self.droppedLines.load(ordering: .relaxed) }

    /// Takes one line, newline included. Never waits for the descriptor.
    package func write(_ line: [UInt8]) {
        pthread_mutex_lock(self.lock)
        guard !self.state.hasStopped, self.state.pending.count + line.count <= self.capacity else {
            self.state.unreported += 1
            pthread_mutex_unlock(self.lock)
            self.droppedLines.wrappingAdd(1, ordering: .relaxed)
            return
        }
        self.state.pending.append(contentsOf: line)
        let wake = self.state.isWaiting
        self.state.isWaiting = false
        pthread_mutex_unlock(self.lock)
        if wake { pthread_cond_signal(self.arrived) }
    }

    /// Waits until everything taken so far has been written.
    ///
    /// - Returns: `false` when `seconds` went by first.
    @discardableResult
    package func flush(seconds: Int = 1) -> Bool {
        self.wait(seconds: seconds) { ($0.pending.isEmpty && !$0.isWriting) || $0.hasStopped }
    }

    /// Writes what was taken and ends the thread. Lines that come later are dropped.
    @discardableResult
    package func stop(seconds: Int = 1) -> Bool {
        pthread_mutex_lock(self.lock)
        self.state.isStopping = true
        self.state.isWaiting = false
        pthread_mutex_unlock(self.lock)
        pthread_cond_signal(self.arrived)
        return self.wait(seconds: seconds) { $0.hasStopped }
    }

    private func wait(seconds: Int, until isDone: (State) -> Bool) -> Bool {
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        deadline.tv_sec += seconds
        pthread_mutex_lock(self.lock)
        defer { pthread_mutex_unlock(self.lock) }
        while !isDone(self.state) {
            guard pthread_cond_timedwait(self.drained, self.lock, &deadline) != ETIMEDOUT else {
                return isDone(self.state)
            }
        }
        return true
    }
}

extension LineWriter {
    private func startThread() {
        var thread: pthread_t = 0
        // The new thread inherits a mask of all signals: they are the main thread's, and SIGPIPE is an errno here.
        var all = sigset_t()
        var before = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_BLOCK, &all, &before)
        let owner = Unmanaged.passRetained(self)
        let result = pthread_create(
            &thread,
            nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<LineWriter>.fromOpaque(argument).takeRetainedValue().run()
                return nil
            },
            owner.toOpaque()
        )
        pthread_sigmask(SIG_SETMASK, &before, nil)
        precondition(result == 0, "no thread for the log: \(result)")
        pthread_detach(thread)
    }

    /// The thread: takes all that waits, writes it outside the lock, and waits again.
    private func run() {
        var batch: [UInt8] = []
        while self.take(into: &batch) {
            let lost = self.writeAll(batch)
            batch.removeAll(keepingCapacity: batch.capacity <= 1 << 20)
            if lost > 0 { self.count(lost: lost) }
        }
    }

    /// `false` at the end.
    private func take(into batch: inout [UInt8]) -> Bool {
        pthread_mutex_lock(self.lock)
        defer { pthread_mutex_unlock(self.lock) }
        self.state.isWriting = false
        while self.state.pending.isEmpty && self.state.unreported == 0 {
            pthread_cond_broadcast(self.drained)
            if self.state.isStopping {
                self.state.hasStopped = true
                return false
            }
            self.state.isWaiting = true
            while self.state.isWaiting { pthread_cond_wait(self.arrived, self.lock) }
        }
        swap(&batch, &self.state.pending)
        if self.state.unreported > 0 {
            batch.append(contentsOf: self.dropNotice(self.state.unreported))
            self.state.unreported = 0
        }
        self.state.isWriting = true
        return true
    }

    /// A descriptor that fails gets no notice of it either: only the count remains.
    private func count(lost: Int) {
        self.droppedLines.wrappingAdd(lost, ordering: .relaxed)
    }

    /// - Returns: the lines that could not be written.
    private func writeAll(_ bytes: [UInt8]) -> Int {
        bytes.withUnsafeBytes { bytes in
            var rest = bytes[...]
            while !rest.isEmpty {
                let chunk = UnsafeRawBufferPointer(rebasing: rest)
                let written = Glibc.write(self.descriptor, chunk.baseAddress, chunk.count)
                if written > 0 {
                    rest = rest.dropFirst(written)
                } else if errno == EAGAIN {
                    // A pipe that somebody else made non-blocking: this thread may wait.
                    var poll = pollfd(fd: self.descriptor, events: Int16(POLLOUT), revents: 0)
                    _ = Glibc.poll(&poll, 1, 1_000)
                } else if errno != EINTR {
                    return rest.lazy.count { $0 == UInt8(ascii: "\n") }
                }
            }
            return 0
        }
    }
}
