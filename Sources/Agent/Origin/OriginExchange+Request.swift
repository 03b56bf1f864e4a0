import HopProtocol
import Logging
import NIOCore
import Observability
import Settings
import Synchronization
import Transport

/// From the stream to the origin.
extension OriginExchange {
    /// The head arrived: may it run, and where?
    func begin(_ head: RequestHead) {
        self.head = head
        let shared = owner.shared
        let now = NIODeadline.now()
        startedAt = now
        guard !shared.isDraining else { return abort(.refused) }
        guard head.run == shared.run else { return abort(.wrongRun) }
        guard let pool = owner.pool(of: head.service) else { return abort(.unknownService) }
        guard shared.enter() else { return abort(.busy) }
        isEntered = true
        shared.metrics.requestsInFlight.increment()
        let attempt = RunningAttempt(self, on: owner.loop)
        let decision = shared.ledger.withLock {
            $0.begin(
                head.requestID,
                attempt: head.attempt,
                run: head.run,
                isIdempotent: head.isIdempotent,
                now: now,
                attempt: attempt
            )
        }
        switch decision {
        case .run: break
        case .replace(let older): older.replaced()
        case .refuse(let code):
            if code == .busy { shared.metrics.ledgerFull.increment() }
            return abort(code)
        }
        isRecorded = true
        self.pool = pool
        // The id is recorded and the origin has not been called: from here on the request may have started.
        var accepted = ByteBuffer()
        MessageEncoder.writeAccepted(into: &accepted)
        stream.write(accepted)
        decideFraming(head, now: now)
    }

    private func decideFraming(_ head: RequestHead, now: NIODeadline) {
        deadline = head.deadline.map { now + $0 } ?? .distantFuture
        if head.fields.contains("upgrade") {
            // Its body, if any, begins after the 101.
            framing = .none
        } else if let length = try? head.fields.contentLength() {
            framing = .length(length)
        } else {
            phase = .undecided
            deadline = min(deadline, now + Self.undecidedTime)
            // FIN of a request without a body comes in the same packet as the head, hence before this look.
            owner.wake(by: deadline)
            return
        }
        connect()
    }

    var wantsConnection: Bool { if case .connecting = phase { connection == nil } else { false } }

    /// How the body is framed is known: find a connection.
    func connect() {
        guard let head, let pool else { return }
        phase = .connecting
        let now = NIODeadline.now()
        deadline = head.deadline.map { startedAt + $0 } ?? .distantFuture
        if deadline != .distantFuture { owner.wake(by: deadline) }
        if !isRetried, let idle = pool.takeIdle(isIdempotent: head.isIdempotent, now: now) {
            connected(idle)
        } else {
            owner.shared.metrics.connects.increment()
            pool.connect(for: self)
        }
    }

    func connected(_ connection: OriginConnection) {
        guard let head else { return }
        self.connection = connection
        phase = .exchanging
        connection.begin(self, method: head.method)
        var bytes = ByteBuffer()
        OriginRequest.writeHead(head, framing: framing, into: &bytes)
        connection.write(bytes)
        hasUnflushed = true
        let waiting = self.waiting
        self.waiting = []
        for bytes in waiting where !isDone { sendBody(bytes) }
        // A body of no bytes, by its framing, is sent with the head.
        if hasRequestEnded || framing == .none || framing == .length(0) { sendEnd() }
        flushOrigin()
    }

    func connectFailed(_ reason: String) {
        guard wantsConnection else { return }
        owner.shared.log.warning(
            "the origin cannot be reached",
            metadata: [
                "service": "\(head?.service ?? "")", "target": "\(pool?.service.target.description ?? "")",
                "reason": "\(reason)", "request_id": "\(head?.requestID.description ?? "")",
            ]
        )
        // After a retry the first connection may have carried the request to the origin.
        abort(isRetried ? .originAborted : .originUnreachable)
    }

    func sendBody(_ bytes: ByteBuffer) {
        guard let connection else { return }
        let count = bytes.readableBytes
        switch framing {
        case .none:
            // A body for an upgrade that the origin refused: nobody reads it.
            stream.consumed(count)
            return
        case .length: break
        case .chunked:
            var header = ByteBuffer()
            OriginRequest.writeChunkHeader(count, isFirst: !hasSentBody, into: &header)
            connection.write(header)
        }
        connection.write(bytes)
        hasSentBody = true
        hasUnflushed = true
        bodyBytes &+= count
        owedCredit &+= count
        if case .length(let announced) = framing, bodyBytes >= announced { sendEnd() }
    }

    func sendEnd() {
        guard let connection, !isRequestSent else { return }
        isRequestSent = true
        if case .chunked = framing {
            var last = ByteBuffer()
            OriginRequest.writeLastChunk(isFirst: !hasSentBody, trailers: trailers, into: &last)
            connection.write(last)
            hasUnflushed = true
        }
        moveDeadline()
    }

    func sendRaw(_ bytes: ByteBuffer) {
        guard let connection else { return }
        connection.write(bytes)
        hasUnflushed = true
        bodyBytes &+= bytes.readableBytes
        owedCredit &+= bytes.readableBytes
    }

    /// Once a batch of what the stream brought.
    func flushOrigin() {
        guard hasUnflushed, let connection else { return }
        hasUnflushed = false
        connection.flush()
        grantCredit()
    }

    /// The socket took what was written when no more than its low water mark waits; what waits beyond costs credit.
    func grantCredit() {
        guard owedCredit > 0, let connection, connection.isWritable else { return }
        owner.shared.metrics.requestBytes.increment(by: owedCredit)
        stream.consumed(owedCredit)
        owedCredit = 0
    }

    func originWritable() { grantCredit() }
}
