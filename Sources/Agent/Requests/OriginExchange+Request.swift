import HopProtocol
import Logging
import NIOCore
import Observability
import Settings
import Synchronization
import Transport

/// The direction from the stream to the origin.
extension OriginExchange {
    /// Handles all events that the decoder has. Called once for each batch of bytes from the stream.
    func readRequest() {
        do throws(HopError) {
            while !isDone, let event = try decoder.next() {
                switch event {
                case .head(let head): handleHead(head)
                case .data(let bytes): handleBody(bytes)
                case .trailers(let fields): trailers = fields
                case .end: handleEnd()
                }
            }
        } catch {
            abort(for: error)
        }
        stream.consumed(decoder.drainOverhead())
        flushOrigin()
    }

    // MARK: Admission

    /// Checks whether the request may run, records it, and finds its origin.
    private func handleHead(_ head: RequestHead) {
        self.head = head
        let now = NIODeadline.now()
        startedAt = now
        guard !context.isDraining else { return abort(.refused) }
        guard head.run == context.run else { return abort(.wrongRun) }
        guard let pool = loopState.pool(of: head.service) else { return abort(.unknownService) }
        guard context.acquireSlot() else { return abort(.busy) }
        machine.slotAcquired()
        context.metrics.requestsInFlight.increment()
        let attempt = RunningAttempt(self, on: loopState.loop)
        let decision = context.ledger.withLock {
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
        case .replace(let older): older.abortAsStale()
        case .refuse(let code):
            if code == .busy { context.metrics.ledgerFull.increment() }
            return abort(code)
        }
        machine.recorded()
        self.pool = pool
        // The id is recorded and the origin has not been called: from here on the request may have started.
        var accepted = ByteBuffer()
        MessageEncoder.writeAccepted(into: &accepted)
        stream.write(accepted)
        deadline = head.deadline.map { now + $0 } ?? .distantFuture
        switch machine.headAdmitted(framing: Self.framing(of: head)) {
        case .connect: connect()
        case .awaitBody:
            deadline = min(deadline, now + Self.bodyTimeout)
            // FIN of a request without a body arrives in the same packet as the head, hence before this deadline.
            loopState.timer.schedule(by: deadline)
        }
    }

    /// The framing of the request's body, or `nil` if the head does not determine it.
    private static func framing(of head: RequestHead) -> OriginRequest.Framing? {
        // The body of an upgrade, if any, begins after the 101.
        if head.fields.contains("upgrade") { return OriginRequest.Framing.none }
        return (try? head.fields.contentLength()).map { .length($0) }
    }

    // MARK: The connection

    /// Obtains a connection: an idle one, or a new one for a retry or if there is none. The pool may call
    /// ``connected(_:)`` later, but an idle connection is used at once.
    func connect() {
        guard let head, let pool else { return }
        let now = NIODeadline.now()
        deadline = head.deadline.map { startedAt + $0 } ?? .distantFuture
        if deadline != .distantFuture { loopState.timer.schedule(by: deadline) }
        if !machine.isRetry, let idle = pool.popIdle(isIdempotent: head.isIdempotent, now: now) {
            connected(idle)
        } else {
            context.metrics.connects.increment()
            pool.connect(for: self)
        }
    }

    var wantsConnection: Bool { machine.isConnecting }

    func connected(_ connection: OriginConnection) {
        guard let head else { return }
        self.connection = connection
        let framing = machine.connected()
        connection.beginExchange(with: self, method: head.method)
        var bytes = ByteBuffer()
        OriginRequest.writeHead(head, framing: framing, into: &bytes)
        connection.write(bytes)
        let heldBody = self.heldBody
        self.heldBody = []
        for bytes in heldBody where !isDone { perform(machine.bodyReceived(bytes.readableBytes), bytes) }
        perform(machine.heldBodyWritten())
        flushOrigin()
    }

    func connectFailed(_ reason: String) {
        guard let code = machine.connectFailed() else { return }
        context.log.warning(
            "origin unreachable",
            metadata: [
                "service": "\(head?.service ?? "")", "target": "\(pool?.service.target.description ?? "")",
                "reason": "\(reason)", "remedy": "Start the service, or correct its address (services).",
                "request_id": "\(head?.requestID.description ?? "")",
            ]
        )
        abort(code)
    }

    // MARK: The body

    private func handleBody(_ bytes: ByteBuffer) {
        // Bytes that are held for a connection do not extend the deadline.
        let extendsDeadline = machine.isAwaitingResponseHead
        perform(machine.bodyReceived(bytes.readableBytes), bytes)
        if extendsDeadline { extendDeadline() }
    }

    private func perform(_ action: OriginExchangeStateMachine.BodyAction, _ bytes: ByteBuffer) {
        switch action {
        case .hold: heldBody.append(bytes)
        case .holdAndConnect:
            heldBody.append(bytes)
            connect()
        case .discard: stream.consumed(bytes.readableBytes)
        case .forward(let completes):
            write(bytes)
            if completes { extendDeadline() }
        case .forwardChunk(let isFirst):
            var header = ByteBuffer()
            OriginRequest.writeChunkHeader(bytes.readableBytes, isFirst: isFirst, into: &header)
            connection?.write(header)
            write(bytes)
        case .forwardRaw: write(bytes)
        }
    }

    private func write(_ bytes: ByteBuffer) {
        guard let connection else { return }
        connection.write(bytes)
        owedCredit &+= bytes.readableBytes
    }

    private func handleEnd() {
        // The decoder returns the head before the end, so there is one.
        perform(machine.requestEnded(method: head?.method ?? ""))
    }

    private func perform(_ action: OriginExchangeStateMachine.RequestEndAction) {
        switch action {
        case .none: break
        case .connect: connect()
        case .completed: extendDeadline()
        case .writeLastChunk(let isFirst):
            var last = ByteBuffer()
            OriginRequest.writeLastChunk(isFirst: isFirst, trailers: trailers, into: &last)
            connection?.write(last)
            extendDeadline()
        case .closeOutput(let ending):
            connection?.closeOutput()
            if let ending { finish(ending) }
        }
    }

    // MARK: Flow control

    /// Flushes what a batch of bytes from the stream has caused to be written.
    private func flushOrigin() {
        guard let connection, connection.flushIfNeeded() else { return }
        returnCredit()
    }

    /// Returns the owed credit to the peer if the origin's socket has accepted all but its low water mark.
    private func returnCredit() {
        guard owedCredit > 0, let connection, connection.isWritable else { return }
        context.metrics.requestBytes.increment(by: owedCredit)
        stream.consumed(owedCredit)
        owedCredit = 0
    }

    func originWritable() { returnCredit() }
}
