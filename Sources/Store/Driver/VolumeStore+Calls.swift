import NIOCore
import Synchronization

/// A caller that waits for the first of two: its job, or its deadline. The timer of the deadline holds the waiter; when
/// the store is closed and drops its timers, the waiter's end is the answer.
final class PendingCall<Result: Sendable>: Sendable {
    private struct State {
        var continuation: CheckedContinuation<Swift.Result<Result, StoreError>, Never>?
        var timer: UInt64?
    }

    private let state: Mutex<State>

    init(_ continuation: CheckedContinuation<Swift.Result<Result, StoreError>, Never>) {
        state = Mutex(State(continuation: continuation))
    }

    deinit {
        let closed = StoreError(.closed, "the store", "was closed before it answered")
        state.withLock { $0.continuation.take() }?.resume(returning: .failure(closed))
    }

    /// False: nobody waits any more.
    var isAwaited: Bool { state.withLock { $0.continuation != nil } }

    /// The number of the deadline's timer; false if the answer was faster.
    func holds(timer: UInt64) -> Bool {
        state.withLock { state in
            state.timer = timer
            return state.continuation != nil
        }
    }

    /// Gives the answer, if it is the first. Returns the timer to cancel.
    func answer(_ result: Swift.Result<Result, StoreError>) -> UInt64? {
        let (continuation, timer) = state.withLock { ($0.continuation.take(), $0.timer) }
        continuation?.resume(returning: result)
        return timer
    }
}

extension VolumeStore {
    /// Performs blocking work on a queue and waits for its result. A job whose caller has given up before it began is
    /// skipped.
    ///
    /// - Parameters:
    ///   - queue: The queue whose threads do the work.
    ///   - operation: The kind of operation that the duration is reported as, or `nil` to report nothing.
    ///   - limit: The longest time that the caller waits, capped at ``Options/callDeadline``.
    /// - Throws: The error of `body`, `stalled` at the deadline, `busy` if the queue is full, `closed` if the store is
    ///   closed.
    func perform<Result: Sendable>(
        on queue: BlockingWorkQueue,
        _ operation: StoreOperation? = nil,
        within limit: TimeAmount? = nil,
        _ body: @escaping @Sendable (Volume) throws(StoreError) -> Result
    ) async throws(StoreError) -> Result {
        let volume = volume
        let timers = timers
        let deadline = NIODeadline.now() + min(limit ?? options.callDeadline, options.callDeadline)
        let result: Swift.Result<Result, StoreError> = await withCheckedContinuation { continuation in
            let waiter = PendingCall(continuation)
            // Weak: a job that hangs must not keep its caller from learning that the store was closed.
            let isAccepted = queue.submit { [weak self, weak waiter] in
                guard waiter?.isAwaited == true else { return }
                let began = volume.now()
                let result: Swift.Result<Result, StoreError>
                do throws(StoreError) {
                    result = .success(try body(volume))
                } catch {
                    result = .failure(error)
                }
                if let operation { self?.record(operation, volume.now() - began) }
                if let timer = waiter?.answer(result) { timers.cancel(timer) }
            }
            guard isAccepted else {
                let isClosed = shared.withLock { $0.isClosed }
                let (code, reason): (StoreError.Code, String) =
                    isClosed
                    ? (.closed, "the store was closed")
                    : (.busy, "too many calls are waiting for the volume; try again later")
                _ = waiter.answer(.failure(StoreError(code, volume.files.root, reason)))
                return
            }
            let timer = timers.schedule(at: deadline) {
                let stalled = StoreError(.stalled, volume.files.root, "the volume did not answer in time")
                _ = waiter.answer(.failure(stalled))
            }
            if !waiter.holds(timer: timer) { timers.cancel(timer) }
        }
        return try result.get()
    }

    /// Returns at the given time.
    ///
    /// - Throws: `closed` if the task is cancelled or the store is closed before.
    func sleep(until due: NIODeadline) async throws(StoreError) {
        let volume = volume
        // Weak, so that a closed store, which drops the timer, wakes the sleeping task.
        let box = Mutex(WeakReference<PendingCall<Void>>())
        let result: Swift.Result<Void, StoreError> = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let waiter = PendingCall(continuation)
                box.withLock { $0.value = waiter }
                let timer = timers.schedule(at: due) { _ = waiter.answer(.success(())) }
                if !waiter.holds(timer: timer) || Task.isCancelled || shared.withLock({ $0.isClosed }) {
                    timers.cancel(timer)
                    _ = waiter.answer(.failure(StoreError(.closed, volume.files.root, "the wait was cancelled")))
                }
            }
        } onCancel: {
            let waiter = box.withLock { $0.value }
            _ = waiter?.answer(.failure(StoreError(.closed, volume.files.root, "the wait was cancelled")))
        }
        try result.get()
    }
}

/// A weak reference that a lock can hold.
private struct WeakReference<Value: AnyObject & Sendable>: Sendable {
    weak var value: Value?
}
