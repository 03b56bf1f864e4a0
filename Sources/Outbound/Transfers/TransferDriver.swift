internal import CCurl
internal import NIOCore

/// The transfers of one `ccurl_multi`, which it owns. Confined to the transfer thread.
final class TransferDriver {
    private let multi: OpaquePointer
    private let thread: TransferThread
    private var active: [ObjectIdentifier: Transfer] = [:]
    /// When the last transfer ended.
    private(set) var idleSince = NIODeadline.now()

    init(_ multi: OpaquePointer, thread: TransferThread) {
        self.multi = multi
        self.thread = thread
    }

    /// One entry for each transfer under way.
    var origins: [String] { active.values.map(\.url.origin) }

    /// Until there is nothing to do for long, the client is closed, or libcurl fails; then the multi is gone.
    func run() {
        while true {
            dropFinished()
            let now = NIODeadline.now()
            let turn: WaitingLine.Turn
            switch thread.next(self, now: now) {
            case .turn(let next): turn = next
            case .idle: return ccurl_multi_destroy(multi)
            case .closed: return stop { .closed($0, mayHaveArrived: true) }
            }
            for exchange in turn.dropped { exchange.finish(.failure(.late(exchange.shown))) }
            for exchange in turn.starting { start(exchange, exchange.request.url, hop: 0, now: now) }
            guard ccurl_multi_perform(multi) else { return breakDown() }
            let hasRoom = takeEnded()
            guard ccurl_multi_poll(multi, hasRoom ? 0 : pause(until: turn.deadline, now: now)) else {
                return breakDown()
            }
        }
    }

    private func start(_ exchange: PendingTransfer, _ url: OutboundURL, hop: Int, now: NIODeadline) {
        let transfer = Transfer(exchange, url: url, hop: hop, limits: thread.limits)
        guard transfer.prepare(userAgent: thread.userAgent, usesProxy: thread.usesProxy, now: now),
            let handle = transfer.handle, ccurl_multi_add(multi, handle)
        else {
            let reason = "libcurl took no further transfer; memory may be short"
            exchange.finish(.failure(.failed(exchange.shown, reason, mayHaveArrived: hop > 0)))
            return
        }
        active[ObjectIdentifier(transfer)] = transfer
    }

    /// Those that were cancelled.
    private func dropFinished() {
        for transfer in active.values where transfer.exchange.isFinished { remove(transfer) }
    }

    private func remove(_ transfer: Transfer) {
        active[ObjectIdentifier(transfer)] = nil
        if let handle = transfer.handle { ccurl_multi_remove(multi, handle) }
        idleSince = .now()
    }

    /// True: there are new transfers, or new room for those who wait.
    private func takeEnded() -> Bool {
        var result = ccurl_result()
        var hasRoom = false
        while let owner = ccurl_multi_next(multi, &result) {
            let transfer = Transfer.from(owner)
            active[ObjectIdentifier(transfer)] = nil
            hasRoom = true
            idleSince = .now()
            switch transfer.ended(result) {
            case .finish(let outcome):
                transfer.exchange.finish(outcome)
            case .follow(let url):
                start(transfer.exchange, url, hop: transfer.hop + 1, now: .now())
            }
        }
        return hasRoom
    }

    /// Milliseconds. libcurl returns earlier when something is due for it.
    private func pause(until deadline: NIODeadline?, now: NIODeadline) -> Int32 {
        var end = now + (active.isEmpty ? thread.limits.idle : .seconds(60))
        if let deadline { end = min(end, deadline) }
        // Rounded up, so that what is waited for is due afterwards.
        let milliseconds = max(0, (end - .now()).nanoseconds) / 1_000_000 + 1
        return Int32(clamping: milliseconds)
    }

    private func stop(_ error: (String) -> OutboundError) {
        for transfer in active.values {
            if let handle = transfer.handle { ccurl_multi_remove(multi, handle) }
            transfer.exchange.finish(.failure(error(transfer.exchange.shown)))
        }
        active = [:]
        ccurl_multi_destroy(multi)
    }

    private func breakDown() {
        thread.retire()
        stop { .failed($0, "libcurl failed; memory or descriptors may be short", mayHaveArrived: true) }
    }
}
