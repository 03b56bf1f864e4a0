import CCurl
import NIOCore
import Synchronization
import Threads

/// The thread that drives libcurl, and the queue of requests in front of it.
///
/// Any thread calls ``submit(_:)``, ``cancel(_:)`` and ``close(_:)``. Everything else runs on the transfer thread:
/// `run()` creates a libcurl multi handle and a ``TransferDriver`` for it, and starts over with new ones if requests
/// arrive while a driver is ending. The first request starts the thread; it ends when it is idle for
/// ``OutboundLimits/idle`` or after ``close(_:)``, together with its connections.
final class TransferThread: Sendable {
    let userAgent: String
    let usesProxy: Bool
    let limits: OutboundLimits
    private let state = Mutex(State())

    struct Multi: @unchecked Sendable {
        let handle: OpaquePointer
    }

    struct State {
        var queue = TransferQueue()
        /// The multi handle, set while the thread can be woken. Any thread may call libcurl's wake-up as long as the
        /// handle lives, so it is called under the lock only.
        var multi: Multi?
        var isRunning = false
        var isClosed = false
        var active = 0
        var closeWaiters: [CheckedContinuation<Void, Never>] = []

        /// Marks the thread as ended and empties the queue.
        ///
        /// - Returns: The requests to finish and the callers of `close()` to resume, outside of the lock.
        mutating func terminate() -> (pending: [PendingTransfer], closeWaiters: [CheckedContinuation<Void, Never>]) {
            isRunning = false
            defer { closeWaiters = [] }
            return (queue.removeAll(), closeWaiters)
        }
    }

    init(userAgent: String, usesProxy: Bool, limits: OutboundLimits) {
        self.userAgent = OutboundURL.printable(userAgent.utf8)
        self.usesProxy = usesProxy
        self.limits = limits
    }

    /// The numbers of queued and of active transfers.
    var load: (waiting: Int, active: Int) { state.withLock { ($0.queue.count, $0.active) } }

    // MARK: Called by any thread

    /// Puts a transfer into the queue and starts or wakes the thread. A transfer that is not accepted is finished with
    /// an error here; all others are finished by the thread.
    func submit(_ pending: PendingTransfer) {
        enum Answer { case accepted, starts, busy, closed }
        let answer = state.withLock { state -> Answer in
            // The task was cancelled before it submitted the request.
            if pending.isFinished { return .accepted }
            if state.isClosed { return .closed }
            guard state.queue.count < limits.waiting else { return .busy }
            state.queue.append(pending)
            if let multi = state.multi { ccurl_multi_wakeup(multi.handle) }
            if state.isRunning { return .accepted }
            state.isRunning = true
            return .starts
        }
        switch answer {
        case .accepted: break
        case .busy: pending.finish(.failure(.busy(pending.redactedURL, limits.waiting)))
        case .closed: pending.finish(.failure(.closed(pending.redactedURL, mayHaveArrived: false)))
        case .starts:
            if !startThread("outbound", { [self] in run() }) { fail(ThreadLimit.message) }
        }
    }

    /// Finishes a transfer with `cancelled` and lets the thread stop it.
    func cancel(_ pending: PendingTransfer) {
        pending.finish(.failure(.cancelled(pending.redactedURL)))
        state.withLock { state in
            if !state.queue.remove(pending), let multi = state.multi { ccurl_multi_wakeup(multi.handle) }
        }
    }

    /// Refuses further requests, stops the thread, and resumes `closer` when it has ended.
    func close(_ closer: CheckedContinuation<Void, Never>?) {
        let isRunning = state.withLock { state -> Bool in
            state.isClosed = true
            if let multi = state.multi { ccurl_multi_wakeup(multi.handle) }
            if state.isRunning, let closer { state.closeWaiters.append(closer) }
            return state.isRunning
        }
        if !isRunning { closer?.resume() }
    }

    // MARK: The thread

    private func run() {
        repeat {
            guard ccurl_prepare(), let multi = ccurl_multi_create(Int32(limits.active)) else {
                fail("libcurl cannot be used: 7.85 or later with TLS is needed, and memory")
                return
            }
            state.withLock { $0.multi = Multi(handle: multi) }
            TransferDriver(multi, thread: self).run()
        } while !stopUnlessRequestsWait()
    }

    /// The next step of a driver.
    enum Instruction {
        case turn(TransferQueue.Turn)
        /// The driver ends because it was idle. Its multi handle is no longer woken.
        case idle
        /// The driver ends because the client was closed. Its multi handle is no longer woken.
        case closed
    }

    func nextInstruction(for driver: TransferDriver, now: NIODeadline) -> Instruction {
        state.withLock { state in
            if state.isClosed {
                state.multi = nil
                return .closed
            }
            let origins = driver.origins
            let turn = state.queue.next(active: origins, limits: limits, now: now)
            state.active = origins.count + turn.starting.count
            if state.active == 0, turn.expired.isEmpty, now >= driver.idleSince + limits.idle {
                state.multi = nil
                return .idle
            }
            return .turn(turn)
        }
    }

    /// Forgets the multi handle of a driver that is about to destroy it, so that it is no longer woken.
    func invalidateMulti() {
        state.withLock { $0.multi = nil }
    }

    /// Ends the thread after its multi handle is gone, unless requests were queued in the meantime.
    ///
    /// - Returns: `false` if the thread must go on with a new driver.
    private func stopUnlessRequestsWait() -> Bool {
        let leaving = state.withLock {
            state -> (pending: [PendingTransfer], closeWaiters: [CheckedContinuation<Void, Never>])? in
            state.active = 0
            guard state.isClosed || state.queue.count == 0 else { return nil }
            return state.terminate()
        }
        guard let leaving else { return false }
        for pending in leaving.pending { pending.finish(.failure(.closed(pending.redactedURL, mayHaveArrived: false))) }
        leaving.closeWaiters.forEach { $0.resume() }
        return true
    }

    /// Ends the thread because libcurl or a thread is unavailable, and fails all queued requests. The next request
    /// tries again.
    private func fail(_ reason: String) {
        let leaving = state.withLock { $0.terminate() }
        for pending in leaving.pending {
            pending.finish(.failure(.failed(pending.redactedURL, reason, mayHaveArrived: false)))
        }
        leaving.closeWaiters.forEach { $0.resume() }
    }
}
