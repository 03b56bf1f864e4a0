import Glibc
import Synchronization
import Threads

/// A writer of lines to a descriptor that never blocks its callers.
///
/// # Threads
/// Any thread calls ``write(_:)``, which appends the line to a buffer under a lock and wakes the writer's thread if it
/// is idle. That thread takes the whole buffer as one batch, releases the lock, and writes the batch to the descriptor;
/// only it waits for a pipe or a disk. ``flush(seconds:)`` and ``stop(seconds:)`` wait for it, with a time limit. The
/// thread holds a reference to the writer, so the owner must call ``stop(seconds:)`` to free both; the writer of a
/// process's log lives as long as the process.
///
/// # Loss
/// The buffer holds at most ``capacity`` bytes. A line that does not fit is dropped and counted; once there is room
/// again, a notice states how many were lost. If a write fails, the rest of the batch is discarded and counted in the
/// same way, without a notice: the process continues without its log.
///
/// `@unchecked Sendable`: `state` is accessed under `lock` only; all else is immutable or atomic.
package final class LineWriter: @unchecked Sendable {
    /// The maximum number of buffered bytes, not counting the batch that is being written.
    package let capacity: Int

    private let descriptor: Int32
    private let dropNotice: @Sendable (_ dropped: Int) -> [UInt8]
    private let droppedLines = Atomic<Int>(0)

    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    /// Signalled when lines arrive for an idle thread, or when it must stop.
    private let arrived: UnsafeMutablePointer<pthread_cond_t>
    /// Signalled when everything that was buffered has been written.
    private let drained: UnsafeMutablePointer<pthread_cond_t>
    private var state = State()

    /// The mutable state, guarded by `lock`.
    private struct State {
        var pending: [UInt8] = []
        /// The number of lines dropped since the last notice.
        var unreported = 0
        var isStarted = false
        var isWriting = false
        var isWaiting = false
        var isStopping = false
        var hasStopped = false
    }

    /// Creates a writer. Its thread is started by the first line, or by a later one if the system has no thread left,
    /// and runs until ``stop(seconds:)``. The caller keeps the descriptor open as long.
    ///
    /// - Parameter dropNotice: Makes the line, newline included, that reports dropped lines.
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
        pthread_mutex_init(lock, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(arrived, &attributes)
        pthread_cond_init(drained, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    /// Starts the thread, unless it has been started before.
    ///
    /// - Returns: `false` if the system has no thread left.
    @discardableResult
    private func start() -> Bool {
        pthread_mutex_lock(lock)
        let starts = !state.isStarted
        state.isStarted = true
        pthread_mutex_unlock(lock)
        guard starts, !startThread("log-writer", { [self] in run() }) else { return true }
        pthread_mutex_lock(lock)
        state.isStarted = false
        pthread_mutex_unlock(lock)
        return false
    }

    /// Frees the lock and the conditions. Runs only after the thread has ended, which holds a reference while it runs.
    deinit {
        pthread_cond_destroy(arrived)
        pthread_cond_destroy(drained)
        pthread_mutex_destroy(lock)
        arrived.deallocate()
        drained.deallocate()
        lock.deallocate()
    }

    /// The number of lines lost since the start.
    package var dropped: Int { droppedLines.load(ordering: .relaxed) }

    /// Buffers one line, newline included. Never waits for the descriptor.
    package func write(_ line: [UInt8]) {
        pthread_mutex_lock(lock)
        guard !state.hasStopped, state.pending.count + line.count <= capacity else {
            state.unreported += 1
            pthread_mutex_unlock(lock)
            droppedLines.wrappingAdd(1, ordering: .relaxed)
            return
        }
        state.pending.append(contentsOf: line)
        let wake = state.isWaiting
        let needsThread = !state.isStarted
        state.isWaiting = false
        pthread_mutex_unlock(lock)
        if wake { pthread_cond_signal(arrived) }
        if needsThread { start() }
    }

    /// Waits until all lines that were buffered so far have been written.
    ///
    /// - Returns: `false` if `seconds` passed first.
    @discardableResult
    package func flush(seconds: Int = 1) -> Bool {
        wait(seconds: seconds) { ($0.pending.isEmpty && !$0.isWriting) || $0.hasStopped }
    }

    /// Writes the buffered lines and ends the thread. Later lines are dropped. If no thread could be started, the lines
    /// are written by the caller.
    ///
    /// - Returns: `false` if `seconds` passed first.
    @discardableResult
    package func stop(seconds: Int = 1) -> Bool {
        pthread_mutex_lock(lock)
        state.isStopping = true
        state.isWaiting = false
        pthread_mutex_unlock(lock)
        pthread_cond_signal(arrived)
        if !start() { run() }
        return wait(seconds: seconds) { $0.hasStopped }
    }

    private func wait(seconds: Int, until isDone: (State) -> Bool) -> Bool {
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        deadline.tv_sec += seconds
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        while !isDone(state) {
            guard pthread_cond_timedwait(drained, lock, &deadline) != ETIMEDOUT else {
                return isDone(state)
            }
        }
        return true
    }
}

extension LineWriter {
    /// The body of the thread: writes batches until there are no more.
    private func run() {
        var batch: [UInt8] = []
        while nextBatch(into: &batch) {
            let lost = writeAll(batch)
            batch.removeAll(keepingCapacity: batch.capacity <= 1 << 20)
            if lost > 0 { count(lost: lost) }
        }
    }

    /// Waits for buffered lines and moves them into `batch`.
    ///
    /// - Returns: `false` if the writer was stopped and everything has been written.
    private func nextBatch(into batch: inout [UInt8]) -> Bool {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        state.isWriting = false
        while state.pending.isEmpty && state.unreported == 0 {
            pthread_cond_broadcast(drained)
            if state.isStopping {
                state.hasStopped = true
                return false
            }
            state.isWaiting = true
            while state.isWaiting { pthread_cond_wait(arrived, lock) }
        }
        swap(&batch, &state.pending)
        if state.unreported > 0 {
            batch.append(contentsOf: dropNotice(state.unreported))
            state.unreported = 0
        }
        state.isWriting = true
        return true
    }

    /// Counts lines that could not be written. There is no notice, since the descriptor fails.
    private func count(lost: Int) {
        droppedLines.wrappingAdd(lost, ordering: .relaxed)
    }

    /// Writes all bytes to the descriptor.
    ///
    /// - Returns: The number of lines that could not be written.
    private func writeAll(_ bytes: [UInt8]) -> Int {
        bytes.withUnsafeBytes { bytes in
            var rest = bytes[...]
            while !rest.isEmpty {
                let chunk = UnsafeRawBufferPointer(rebasing: rest)
                let written = Glibc.write(descriptor, chunk.baseAddress, chunk.count)
                if written > 0 {
                    rest = rest.dropFirst(written)
                } else if errno == EAGAIN {
                    // Another process may have made a shared pipe non-blocking. Waiting is fine on this thread.
                    var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    _ = Glibc.poll(&poll, 1, 1_000)
                } else if errno != EINTR {
                    return rest.lazy.count { $0 == UInt8(ascii: "\n") }
                }
            }
            return 0
        }
    }
}
