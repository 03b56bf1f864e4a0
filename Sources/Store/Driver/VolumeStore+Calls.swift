internal import NIOCore
internal import Synchronization

/// A caller that waits for the first of two: its job, or its deadline. The timer of the deadline holds the waiter; when the
/// store is closed and drops its timers, the waiter's end is the answer.
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
    /// Does a piece of blocking work on a line. A job whose caller has gone before it began is not done at all.
    ///
    /// - Parameters:
    ///   - operation: what its duration counts as; nil: as nothing.
    ///   - limit: the caller waits no longer than this, and never longer than the deadline of every call.
    func perform<Result: Sendable>(
        on line: BlockingWorkQueue,
        _ operation: StoreOperation? = nil,
        within limit: TimeAmount? = nil,
        _ body: @escaping @Sendable (Volume) throws(StoreError) -> Result
    ) async throws(StoreError) -> Result {
        let volume = volume
        let timers = timers
        let deadline = NIODeadline.now() + min(limit ?? options.callDeadline, options.callDeadline)
        let result: Swift.Result<Result, StoreError> = await withCheckedContinuation { continuation in
            let waiter = PendingCall(continuation)
            // Weak: a job that hangs must not keep its caller from hearing that the store was closed.
            let isAccepted = line.submit { [weak self, weak waiter] in
                guard waiter?.isAwaited == true else { return }
                let began = volume.now()
                let result: Swift.Result<Result, StoreError>
                do throws(StoreError) {
                    result = .success(try body(volume))
                } catch {
                    result = .failure(error)
                }
                if let operation { self?.observed(operation, volume.now() - began) }
                if let timer = waiter?.answer(result) { timers.cancel(timer) }
            }
            guard isAccepted else {
                let isClosed = shared.withLock { $0.isClosed }
                let (code, reason): (StoreError.Code, String) =
                    isClosed ? (.closed, "the store was closed") : (.busy, "too much waits for the volume already")
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

    /// Returns then, or as soon as the task is cancelled.
    func sleep(until due: NIODeadline) async throws(StoreError) {
        let volume = volume
        // Weak, so that a closed store, which drops the timer, wakes whoever sleeps.
        let box = Mutex(WeakBox<PendingCall<Void>>())
        let result: Swift.Result<Void, StoreError> = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let waiter = PendingCall(continuation)
                box.withLock { $0.value = waiter }
                let timer = timers.schedule(at: due) { _ = waiter.answer(.success(())) }
                if !waiter.holds(timer: timer) || Task.isCancelled || shared.withLock({ $0.isClosed }) {
                    timers.cancel(timer)
                    _ = waiter.answer(.failure(StoreError(.closed, volume.files.root, "nobody waits any more")))
                }
            }
        } onCancel: {
            let waiter = box.withLock { $0.value }
            _ = waiter?.answer(.failure(StoreError(.closed, volume.files.root, "nobody waits any more")))
        }
        try result.get()
    }
}

private struct WeakBox<Value: AnyObject & Sendable>: Sendable {
    weak var value: Value?
}
