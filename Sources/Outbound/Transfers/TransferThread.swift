internal import CCurl
internal import NIOCore
internal import Synchronization

/// The thread that drives libcurl, and the line of requests before it. Started by the first request, ended by
/// idleness or ``close(_:)``; its connections go with it.
final class TransferThread: Sendable {
    let userAgent: String
    let usesProxy: Bool
    let limits: OutboundLimits
    private let state = Mutex(State())

    struct Multi: @unchecked Sendable {
        let handle: OpaquePointer
    }

    struct State {
        var line = WaitingLine()
        /// Set while the thread can be woken. libcurl's wake-up may be called by any thread as long as it lives, which
        /// the lock sees to.
        var multi: Multi?
        var isRunning = false
        var isClosed = false
        var active = 0
        var closers: [CheckedContinuation<Void, Never>] = []

        /// The thread ends: those who still wait for it.
        mutating func leave() -> (exchanges: [PendingTransfer], closers: [CheckedContinuation<Void, Never>]) {
            isRunning = false
            defer { closers = [] }
            return (line.removeAll(), closers)
        }
    }

    init(userAgent: String, usesProxy: Bool, limits: OutboundLimits) {
        self.userAgent = OutboundURL.plain(userAgent.utf8)
        self.usesProxy = usesProxy
        self.limits = limits
    }

    var load: (waiting: Int, active: Int) { state.withLock { ($0.line.count, $0.active) } }

    // MARK: Called by any thread

    /// The exchange is finished by the thread, or here and now when it is not accepted.
    func submit(_ exchange: PendingTransfer) {
        enum Answer { case accepted, starts, busy, closed }
        let answer = state.withLock { state -> Answer in
            // It was cancelled before it came here.
            if exchange.isFinished { return .accepted }
            if state.isClosed { return .closed }
            guard state.line.count < limits.waiting else { return .busy }
            state.line.append(exchange)
            if let multi = state.multi { ccurl_multi_wakeup(multi.handle) }
            if state.isRunning { return .accepted }
            state.isRunning = true
            return .starts
        }
        switch answer {
        case .accepted: break
        case .busy: exchange.finish(.failure(.busy(exchange.shown, limits.waiting)))
        case .closed: exchange.finish(.failure(.closed(exchange.shown, mayHaveArrived: false)))
        case .starts:
            if !startDetachedThread("outbound", { [self] in run() }) { end("no thread could be started") }
        }
    }

    func cancel(_ exchange: PendingTransfer) {
        exchange.finish(.failure(.cancelled(exchange.shown)))
        state.withLock { state in
            if !state.line.remove(exchange), let multi = state.multi { ccurl_multi_wakeup(multi.handle) }
        }
    }

    func close(_ closer: CheckedContinuation<Void, Never>?) {
        let isRunning = state.withLock { state -> Bool in
            state.isClosed = true
            if let multi = state.multi { ccurl_multi_wakeup(multi.handle) }
            if state.isRunning, let closer { state.closers.append(closer) }
            return state.isRunning
        }
        if !isRunning { closer?.resume() }
    }

    // MARK: The thread

    private func run() {
        repeat {
            guard ccurl_prepare(), let multi = ccurl_multi_create(Int32(limits.active)) else {
                end("libcurl cannot be used: 7.85 or later with TLS is needed, and memory")
                return
            }
            state.withLock { $0.multi = Multi(handle: multi) }
            TransferDriver(multi, thread: self).run()
        } while !settle()
    }

    /// What a driver has to do next.
    enum Order {
        case turn(WaitingLine.Turn)
        /// There was nothing to do for long; the multi is not woken any more.
        case idle
        /// The multi is not woken any more.
        case closed
    }

    func next(_ driver: TransferDriver, now: NIODeadline) -> Order {
        state.withLock { state in
            if state.isClosed {
                state.multi = nil
                return .closed
            }
            let origins = driver.origins
            let turn = state.line.next(active: origins, limits: limits, now: now)
            state.active = origins.count + turn.starting.count
            if state.active == 0, turn.dropped.isEmpty, now >= driver.idleSince + limits.idle {
                state.multi = nil
                return .idle
            }
            return .turn(turn)
        }
    }

    /// From here on nobody wakes the multi of a driver, which is about to go.
    func retire() {
        state.withLock { $0.multi = nil }
    }

    /// The multi is gone. True: so is the thread, for nobody waits; or for those who do there is no hope.
    private func settle() -> Bool {
        let leaving = state.withLock {
            state -> (exchanges: [PendingTransfer], closers: [CheckedContinuation<Void, Never>])? in
            state.active = 0
            guard state.isClosed || state.line.count == 0 else { return nil }
            return state.leave()
        }
        guard let leaving else { return false }
        for exchange in leaving.exchanges { exchange.finish(.failure(.closed(exchange.shown, mayHaveArrived: false))) }
        leaving.closers.forEach { $0.resume() }
        return true
    }

    /// Nothing can be transferred: everybody who waits hears of it. The next request tries again.
    private func end(_ reason: String) {
        let leaving = state.withLock { $0.leave() }
        for exchange in leaving.exchanges {
            exchange.finish(.failure(.failed(exchange.shown, reason, mayHaveArrived: false)))
        }
        leaving.closers.forEach { $0.resume() }
    }
}
