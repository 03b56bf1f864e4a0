import NIOCore
import Synchronization
import Threads

extension VolumeStore {
    /// The error of a call whose timer is dropped because the store is closed.
    static let closed = StoreError(.closed, "the store", "was closed before it answered")

    /// The error of a call whose task was cancelled before all of it was done.
    static let cancelled = StoreError(.closed, "the store", "was not asked further, because the call was cancelled")

    /// Performs blocking work on a queue and waits for its result. A job whose caller has given up before it began is
    /// skipped.
    ///
    /// - Parameters:
    ///   - queue: The queue whose threads do the work.
    ///   - subject: The path of what the work reads, on a queue that adds threads while others hang.
    ///   - operation: The kind of operation that the duration is reported as, or `nil` to report nothing.
    ///   - limit: The longest time that the caller waits, capped at ``Options/callDeadline``.
    /// - Throws: The error of `body`, `stalled` at the deadline or at once if the subject hangs, `busy` if the queue is
    ///   full or no thread could be started, `closed` if the store is closed.
    func perform<Result: Sendable>(
        on queue: BlockingWorkQueue,
        of subject: String? = nil,
        _ operation: StoreOperation? = nil,
        within limit: TimeAmount? = nil,
        _ body: @escaping @Sendable (Volume) throws(StoreError) -> Result
    ) async throws(StoreError) -> Result {
        let volume = volume
        let timers = timers
        let place = volume.displayPath(subject ?? "")
        precondition(subject != nil || queue === writer, "a call of a reader has a subject")
        if let subject, shared.withLock({ $0.calls.hang(subject, now: .now()) }) {
            throw StoreError(.stalled, place, "does not answer an earlier call; check the server and the network")
        }
        let deadline = NIODeadline.now() + min(limit ?? options.callDeadline, options.callDeadline)
        let result: Swift.Result<Result, StoreError> = await withCheckedContinuation { continuation in
            let call = PendingCall(continuation, dropped: Self.closed)
            guard timers.start() else {
                call.resume(.failure(StoreError(.busy, volume.files.root, ThreadLimit.message)))
                return
            }
            // Weak: a job that hangs must not keep its caller from learning that the store was closed.
            let isAccepted = queue.submit { [weak self, weak call] in
                guard call?.isWaiting == true else { return }
                let number = subject.flatMap { subject in
                    self?.shared.withLock { $0.calls.begin(subject, until: deadline) }
                }
                let began = volume.now()
                let result: Swift.Result<Result, StoreError>
                do throws(StoreError) {
                    result = .success(try body(volume))
                } catch {
                    result = .failure(error)
                }
                if let number { self?.shared.withLock { $0.calls.end(number) } }
                if let operation { self?.record(operation, volume.now() - began) }
                if let timer = call?.resume(result) { timers.cancel(timer) }
            }
            guard isAccepted else {
                let isClosed = shared.withLock { $0.isClosed }
                let (code, reason): (StoreError.Code, String) =
                    if isClosed {
                        (.closed, "the store was closed")
                    } else if queue.threadCount == 0 {
                        (.busy, ThreadLimit.message)
                    } else {
                        (.busy, "too many calls are waiting for the volume; try again later")
                    }
                call.resume(.failure(StoreError(code, volume.files.root, reason)))
                return
            }
            let timer = timers.schedule(at: deadline) {
                let stalled = StoreError(.stalled, place, "the volume did not answer in time")
                call.resume(.failure(stalled))
            }
            if !call.setTimer(timer) { timers.cancel(timer) }
        }
        return try result.get()
    }

    /// Returns at the given time.
    ///
    /// - Throws: `closed` if the task is cancelled or the store is closed before.
    func sleep(until due: NIODeadline) async throws(StoreError) {
        let volume = volume
        // Weak, so that a closed store, which drops the timer, wakes the sleeping task.
        let box = Mutex(WeakReference<PendingCall<Void, StoreError>>())
        let result: Swift.Result<Void, StoreError> = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let call = PendingCall(continuation, dropped: Self.closed)
                box.withLock { $0.value = call }
                let timer = timers.schedule(at: due) { call.resume(.success(())) }
                if !call.setTimer(timer) || Task.isCancelled || shared.withLock({ $0.isClosed }) {
                    timers.cancel(timer)
                    call.resume(.failure(StoreError(.closed, volume.files.root, "the wait was cancelled")))
                }
            }
        } onCancel: {
            let call = box.withLock { $0.value }
            call?.resume(.failure(StoreError(.closed, volume.files.root, "the wait was cancelled")))
        }
        try result.get()
    }
}

/// A weak reference that a lock can hold.
private struct WeakReference<Value: AnyObject & Sendable>: Sendable {
    weak var value: Value?
}
