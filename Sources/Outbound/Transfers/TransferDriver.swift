import CCurl
import NIOCore

/// The event loop of the transfer thread: owns one libcurl multi handle and the transfers in it. Confined to the
/// transfer thread; created by ``TransferThread`` and used for one call of ``run()``.
final class TransferDriver {
    private let multi: OpaquePointer
    private let thread: TransferThread
    private var active: [ObjectIdentifier: Transfer] = [:]
    /// The time at which the last transfer ended, or the driver was created.
    private(set) var idleSince = NIODeadline.now()

    init(_ multi: OpaquePointer, thread: TransferThread) {
        self.multi = multi
        self.thread = thread
    }

    /// The origin of each active transfer, with repetitions.
    var origins: [String] { active.values.map(\.url.origin) }

    /// Runs transfers until the driver is idle for ``OutboundLimits/idle``, the client is closed, or libcurl fails. The
    /// multi handle is destroyed afterwards.
    func run() {
        while true {
            removeFinished()
            let now = NIODeadline.now()
            let turn: TransferQueue.Turn
            switch thread.nextInstruction(for: self, now: now) {
            case .turn(let next): turn = next
            case .idle: return ccurl_multi_destroy(multi)
            case .closed: return stop { .closed($0, mayHaveArrived: true) }
            }
            for pending in turn.expired { pending.finish(.failure(.expiredInQueue(pending.redactedURL))) }
            for pending in turn.starting { start(pending, pending.request.url, hop: 0, now: now) }
            guard ccurl_multi_perform(multi) else { return fail() }
            let hasRoom = completeEnded()
            guard ccurl_multi_poll(multi, hasRoom ? 0 : pollTimeout(until: turn.deadline, now: now)) else {
                return fail()
            }
        }
    }

    private func start(_ pending: PendingTransfer, _ url: OutboundURL, hop: Int, now: NIODeadline) {
        let transfer = Transfer(pending, url: url, hop: hop, limits: thread.limits)
        guard transfer.prepare(userAgent: thread.userAgent, usesProxy: thread.usesProxy, now: now),
            let handle = transfer.handle, ccurl_multi_add(multi, handle)
        else {
            let reason = "libcurl took no further transfer; memory may be short"
            pending.finish(.failure(.failed(pending.redactedURL, reason, mayHaveArrived: hop > 0)))
            return
        }
        active[ObjectIdentifier(transfer)] = transfer
    }

    /// Removes transfers that were cancelled.
    private func removeFinished() {
        for transfer in active.values where transfer.pending.isFinished { remove(transfer) }
    }

    private func remove(_ transfer: Transfer) {
        active[ObjectIdentifier(transfer)] = nil
        if let handle = transfer.handle { ccurl_multi_remove(multi, handle) }
        idleSince = .now()
    }

    /// Finishes the transfers that libcurl has ended, and starts their redirects.
    ///
    /// - Returns: Whether any transfer ended, so that there are new transfers or room for queued ones.
    private func completeEnded() -> Bool {
        var result = ccurl_result()
        var hasRoom = false
        while let owner = ccurl_multi_next(multi, &result) {
            let transfer = Transfer.from(owner)
            active[ObjectIdentifier(transfer)] = nil
            hasRoom = true
            idleSince = .now()
            switch transfer.complete(result) {
            case .finish(let outcome):
                transfer.pending.finish(outcome)
            case .redirect(let url):
                start(transfer.pending, url, hop: transfer.hop + 1, now: .now())
            }
        }
        return hasRoom
    }

    /// The time to wait in libcurl, in milliseconds. libcurl returns earlier when one of its own timers is due.
    private func pollTimeout(until deadline: NIODeadline?, now: NIODeadline) -> Int32 {
        var end = now + (active.isEmpty ? thread.limits.idle : .seconds(60))
        if let deadline { end = min(end, deadline) }
        // Rounded up, so that the deadline has passed afterwards.
        let milliseconds = max(0, (end - .now()).nanoseconds) / 1_000_000 + 1
        return Int32(clamping: milliseconds)
    }

    /// Fails all active transfers and destroys the multi handle.
    private func stop(_ error: (String) -> OutboundError) {
        for transfer in active.values {
            if let handle = transfer.handle { ccurl_multi_remove(multi, handle) }
            transfer.pending.finish(.failure(error(transfer.pending.redactedURL)))
        }
        active = [:]
        ccurl_multi_destroy(multi)
    }

    private func fail() {
        thread.invalidateMulti()
        stop { .failed($0, "libcurl failed; memory or descriptors may be short", mayHaveArrived: true) }
    }
}
