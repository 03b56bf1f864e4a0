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
/// `@unchecked Sendable`: `state` is accessed under the condition's lock only; all else is immutable or atomic.
package final class LineWriter: @unchecked Sendable {
    /// The maximum number of buffered bytes, not counting the batch that is being written.
    package let capacity: Int

    private let descriptor: Int32
    private let dropNotice: @Sendable (_ dropped: Int) -> [UInt8]
    private let droppedLines = Atomic<Int>(0)

    /// Signalled when lines arrive for an idle thread, when it must stop, and when everything that was buffered has
    /// been written.
    private let condition = ThreadCondition()
    private var state = State()

    /// The mutable state, guarded by the condition's lock.
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
    }

    /// Starts the thread, unless it has been started before.
    ///
    /// - Returns: `false` if the system has no thread left.
    @discardableResult
    private func start() -> Bool {
        let starts = condition.withLock {
            defer { state.isStarted = true }
            return !state.isStarted
        }
        guard starts, !startThread("log-writer", { [self] in run() }) else { return true }
        condition.withLock { state.isStarted = false }
        return false
    }

    /// The number of lines lost since the start.
    package var dropped: Int { droppedLines.load(ordering: .relaxed) }

    /// Buffers one line, newline included. Never waits for the descriptor.
    package func write(_ line: [UInt8]) {
        let (isDropped, needsThread) = condition.withLock {
            guard !state.hasStopped, state.pending.count + line.count <= capacity else {
                state.unreported += 1
                return (true, false)
            }
            state.pending.append(contentsOf: line)
            if state.isWaiting { condition.broadcast() }
            state.isWaiting = false
            return (false, !state.isStarted)
        }
        if isDropped { droppedLines.wrappingAdd(1, ordering: .relaxed) }
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
        condition.withLock {
            state.isStopping = true
            state.isWaiting = false
            condition.broadcast()
        }
        if !start() { run() }
        return wait(seconds: seconds) { $0.hasStopped }
    }

    private func wait(seconds: Int, until isDone: (State) -> Bool) -> Bool {
        let deadline = uptimeNanoseconds() + UInt64(seconds) * 1_000_000_000
        return condition.withLock {
            while !isDone(state) {
                guard condition.wait(until: deadline) else { return isDone(state) }
            }
            return true
        }
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
        let notice: Int? = condition.withLock {
            state.isWriting = false
            while state.pending.isEmpty && state.unreported == 0 {
                condition.broadcast()
                if state.isStopping {
                    state.hasStopped = true
                    return nil
                }
                state.isWaiting = true
                while state.isWaiting { condition.wait() }
            }
            swap(&batch, &state.pending)
            defer { state.unreported = 0 }
            state.isWriting = true
            return state.unreported
        }
        guard let notice else { return false }
        if notice > 0 { batch.append(contentsOf: dropNotice(notice)) }
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
