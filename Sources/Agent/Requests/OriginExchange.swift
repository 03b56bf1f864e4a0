import HopProtocol
import Logging
import NIOCore
import Observability
import Synchronization
import Transport
import Tunnel

/// One request: relays a tunnel stream to an origin connection and back, both on the same event loop.
///
/// Bytes pass in the callbacks of the stream (``StreamHandler``) and of the connection (``OriginConnectionDelegate``);
/// nothing is awaited and no body is buffered whole. ``OriginExchangeStateMachine`` decides, this class acts.
///
/// Back-pressure: the peer receives flow-control credit when the origin's socket has accepted the bytes, and the origin
/// is read while the stream is writable.
final class OriginExchange: StreamHandler {
    /// The time that a stream may take to deliver its request head.
    static let headTimeout = TimeAmount.seconds(10)
    /// The time that a request without Content-Length waits for a body byte or FIN, before it is sent as if it had a
    /// body.
    static let bodyTimeout = TimeAmount.milliseconds(50)
    /// Bodies of up to this size are copied next to their frame's header, so that a small response is one write.
    static let copyLimit = 4 * 1024

    let stream: TunnelStream
    let loopState: AgentLoopState
    /// The index in the table of `loopState`, which maintains it; `nil` after the exchange has ended.
    var tableIndex: Int?
    var machine = OriginExchangeStateMachine()
    /// The deadline of the machine's current state, polled by `loopState`.
    var deadline: NIODeadline
    var decoder = RequestDecoder()

    // The request.
    var head: RequestHead?
    var pool: OriginPool?
    var startedAt = NIODeadline.uptimeNanoseconds(0)
    /// The body that arrived before there was a connection.
    var heldBody: [ByteBuffer] = []
    var trailers: FieldSection?
    /// The number of body bytes that were written to the origin's socket and whose credit is not returned yet.
    var owedCredit = 0

    // The response.
    var connection: OriginConnection?
    /// Encoded frames that are not written to the stream yet.
    var pendingFrames = ByteBuffer()

    /// Creates the exchange of a stream that the peer has opened, and registers it with `loopState`.
    init(stream: TunnelStream, loopState: AgentLoopState, now: NIODeadline) {
        self.stream = stream
        self.loopState = loopState
        deadline = now + Self.headTimeout
        loopState.add(self)
        loopState.timer.schedule(by: deadline)
    }

    var context: AgentContext { loopState.context }
    var isDone: Bool { machine.isDone }

    // MARK: StreamHandler

    func streamRead(_ bytes: ByteBuffer) {
        guard !isDone else {
            stream.consumed(bytes.readableBytes)
            return
        }
        decoder.feed(bytes)
        readRequest()
    }

    func streamFinished() {
        guard !isDone else { return }
        do throws(HopError) {
            try decoder.finish()
        } catch {
            abort(for: error)
            return
        }
        readRequest()
    }

    func streamFailed(_ failure: StreamFailure) {
        // The gateway has cancelled the request or is gone: the origin's request is aborted at once.
        if let ending = machine.abort(.cancelled) { finish(ending) }
    }

    func streamStopped(code: ApplicationErrorCode) {
        // The response is not read any more, so it is not needed either.
        guard let ending = machine.abort(.cancelled) else { return }
        stream.stopSending(.cancelled)
        finish(ending)
    }

    func streamWritable() { connection?.read() }

    // MARK: Deadlines

    /// Gives the origin the request's whole time again, while its response head is awaited. The time that the peer
    /// takes for its body does not count against the origin.
    func extendDeadline() {
        guard machine.isAwaitingResponseHead, let limit = head?.deadline else { return }
        deadline = .now() + limit
    }

    /// The deadline has passed. Called by `loopState`.
    func deadlineReached() {
        switch machine.deadlineReached(owesCredit: owedCredit > 0) {
        case .clear: deadline = .distantFuture
        case .extend: extendDeadline()
        case .connect: connect()
        case .abort(let code): abort(code)
        }
    }

    // MARK: The end

    func abort(for error: HopError) {
        // An aborted upload is the client's doing; every other error violates the protocol.
        abort(error.code == .aborted ? .cancelled : .protocolViolation)
    }

    /// Ends the exchange and resets the stream with `code`. Does nothing if the exchange has ended.
    func abort(_ code: HopCode) {
        guard let ending = machine.abort(code) else { return }
        flushResponse()
        stream.reset(code.wireCode)
        if ending.stopsUpload { stream.stopSending(code.wireCode) }
        finish(ending)
    }

    /// Cleans up. Both directions of the stream have been ended.
    func finish(_ ending: OriginExchangeStateMachine.Ending) {
        deadline = .distantFuture
        loopState.remove(self)
        heldBody = []
        if let connection {
            self.connection = nil
            switch ending.connection {
            case .recycle:
                if connection.release() { pool?.insert(connection, now: .now()) }
            case .close: connection.close()
            case .reset: connection.close(withReset: true)
            }
        }
        updateLedger(ending.ledger)
        if ending.releasesSlot {
            context.releaseSlot()
            context.metrics.requestsInFlight.decrement()
        }
        if let code = ending.code { context.metrics.count(code) }
        if head != nil { context.metrics.duration.observe(.now() - startedAt) }
        log(ending)
    }

    private func updateLedger(_ update: OriginExchangeStateMachine.Ending.Ledger) {
        guard update != .none, let head else { return }
        context.ledger.withLock {
            if update == .remove {
                $0.endUnstarted(head.requestID, attempt: head.attempt, isIdempotent: head.isIdempotent)
            } else {
                $0.end(head.requestID, attempt: head.attempt, isIdempotent: head.isIdempotent, now: .now())
            }
        }
    }

    /// Logs failures of the origin as warnings and all other endings for debugging: the gateway's access log has a line
    /// for every request.
    private func log(_ ending: OriginExchangeStateMachine.Ending) {
        let log = context.log
        let level: Logger.Level =
            switch ending.code {
            case .originUnreachable, .originTimeout, .originProtocol, .originAborted: .warning
            default: .debug
            }
        guard log.logLevel <= level, let head else { return }
        log.log(
            level: level,
            "request",
            metadata: [
                "request_id": "\(head.requestID)", "service": "\(head.service)", "method": "\(head.method)",
                "status": "\(ending.status)", "code": "\(ending.code?.name ?? "OK")",
            ]
        )
    }
}
