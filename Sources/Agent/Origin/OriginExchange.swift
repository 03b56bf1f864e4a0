import HopProtocol
import Logging
import NIOCore
import Observability
import Synchronization
import Transport
import Tunnel

/// One request: a stream from a gateway on one side, an origin's connection on the other, both on the same loop. Bytes
/// pass in the callbacks of the two; nothing is awaited and no body is held.
///
/// Back-pressure: the peer gets credit when the origin's socket took the bytes, and the origin is read when the stream
/// is writable.
final class OriginExchange: StreamHandler {
    enum Phase {
        /// The head has not arrived.
        case head
        /// The head is here, but neither a Content-Length, nor body, nor FIN: is there a body?
        case undecided
        /// Waiting for a connection.
        case connecting
        /// The origin has the head.
        case exchanging
        /// After a 101.
        case upgraded
        case done
    }

    /// How long a stream may take to bring its head.
    static let headTimeout = TimeAmount.seconds(10)
    /// How long a request without Content-Length waits for a sign of a body before it is sent as if it had one.
    static let undecidedTime = TimeAmount.milliseconds(50)
    /// Bodies below this are copied next to their frame's header, so that a small answer is one write.
    static let copyLimit = 4 * 1024

    let stream: TunnelStream
    let owner: OriginLoop
    /// Index in the owner's table.
    var slot: Int?
    var phase = Phase.head
    /// Of the current phase; looked at by the owner.
    var deadline: NIODeadline
    var decoder = RequestDecoder()

    // The request.
    var head: RequestHead?
    var pool: OriginPool?
    var startedAt = NIODeadline.uptimeNanoseconds(0)
    /// It counts in `max_requests`.
    var isEntered = false
    /// It stands in the ledger.
    var isRecorded = false
    var framing = OriginRequest.Framing.none
    /// Body that arrived before the connection, and the trailers.
    var waiting: [ByteBuffer] = []
    var trailers: FieldSection?
    /// The stream brought its end.
    var hasRequestEnded = false
    /// The origin has all of it.
    var isRequestSent = false
    var hasSentBody = false
    /// Body bytes given to the origin's socket whose credit is still owed.
    var owedCredit = 0
    var bodyBytes = 0
    var isRetried = false

    // The response.
    var connection: OriginConnection?
    /// Frames that are not written yet.
    var out = ByteBuffer()
    var status = 0
    var hasResponseEnded = false
    var hasUnflushed = false

    init(stream: TunnelStream, owner: OriginLoop, now: NIODeadline) {
        self.stream = stream
        self.owner = owner
        deadline = now + Self.headTimeout
        owner.add(self)
        owner.wake(by: deadline)
    }

    var isDone: Bool { if case .done = phase { true } else { false } }

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
            violated(error)
            return
        }
        readRequest()
    }

    func streamFailed(_ failure: StreamFailure) {
        // The gateway gave up, or is gone: so does the origin's request, at once.
        end(.cancelled)
    }

    func streamStopped(code: ApplicationErrorCode) {
        // Nobody reads the answer any more, so nobody needs it.
        guard !isDone else { return }
        stream.stopSending(.cancelled)
        end(.cancelled)
    }

    func streamWritable() { connection?.read() }

    // MARK: The request

    private func readRequest() {
        do throws(HopError) {
            while !isDone, let event = try decoder.next() {
                switch event {
                case .head(let head): begin(head)
                case .data(let bytes): takeBody(bytes)
                case .trailers(let fields): trailers = fields
                case .end: takeEnd()
                }
            }
        } catch {
            violated(error)
        }
        stream.consumed(decoder.takeOverhead())
        flushOrigin()
    }

    private func violated(_ error: HopError) {
        // An aborted upload is the client's doing; everything else breaks the protocol.
        abort(error.code == .aborted ? .cancelled : .protocolViolation)
    }

    private func takeBody(_ bytes: ByteBuffer) {
        switch phase {
        case .head: preconditionFailure("the decoder gives the head first")
        case .undecided:
            framing = .chunked
            waiting.append(bytes)
            connect()
        case .connecting: waiting.append(bytes)
        case .exchanging:
            sendBody(bytes)
            moveDeadline()
        case .upgraded: sendRaw(bytes)
        case .done: stream.consumed(bytes.readableBytes)
        }
    }

    private func takeEnd() {
        hasRequestEnded = true
        switch phase {
        case .head, .done: break
        case .undecided:
            framing = Self.framingOfEmptyBody(head!)
            connect()
        case .connecting: break
        case .exchanging: sendEnd()
        case .upgraded:
            connection?.closeOutput()
            if hasResponseEnded { end(nil) }
        }
    }

    /// A method that usually brings a body says that it has none (RFC 9110 §8.6).
    private static func framingOfEmptyBody(_ head: RequestHead) -> OriginRequest.Framing {
        switch head.method {
        case "POST", "PUT", "PATCH": .length(0)
        default: .none
        }
    }

    // MARK: Deadlines

    /// Until the response head. The time that the peer takes for its body does not count against the origin.
    func moveDeadline() {
        guard status == 0, let limit = head?.deadline else { return }
        deadline = .now() + limit
    }

    func deadlinePassed(now: NIODeadline) {
        switch phase {
        case .head: abort(.protocolViolation)
        case .undecided:
            framing = .chunked
            connect()
        case .connecting: abort(.deadline)
        case .exchanging:
            // The client is slow, not the origin, while that has all that came; the gateway judges clients.
            guard isRequestSent || owedCredit > 0 else { return moveDeadline() }
            abort(.originTimeout)
        case .upgraded, .done: deadline = .distantFuture
        }
    }

    // MARK: Ends

    /// Ends the exchange and says why to the gateway.
    func abort(_ code: HopCode) {
        guard !isDone else { return }
        flushResponse()
        stream.reset(code.wireCode)
        if !hasRequestEnded { stream.stopSending(code.wireCode) }
        end(code)
    }

    /// Ends the exchange; the streams have been told. nil: the answer is complete.
    func end(_ code: HopCode?) {
        guard !isDone else { return }
        var isUpgraded = false
        if case .upgraded = phase { isUpgraded = true }
        phase = .done
        deadline = .distantFuture
        owner.remove(self)
        waiting = []
        if let connection {
            self.connection = nil
            let isClean = code == nil && hasResponseEnded && isRequestSent
            if isClean, connection.release() {
                pool?.put(connection, now: .now())
            } else {
                connection.close(isCut: code != nil && (isUpgraded || !isRequestSent))
            }
        }
        forget(code)
        if isEntered {
            owner.shared.leave()
            owner.shared.metrics.requestsInFlight.decrement()
        }
        if let code { owner.shared.metrics.count(code) }
        if head != nil { owner.shared.metrics.duration.observe(.now() - startedAt) }
        report(code)
    }

    /// The id stays in the ledger for its minute, unless the origin has provably seen nothing of the request.
    private func forget(_ code: HopCode?) {
        guard isRecorded, let head else { return }
        isRecorded = false
        owner.shared.ledger.withLock {
            if code?.isNotStarted ?? false {
                $0.endUnstarted(head.requestID, attempt: head.attempt, isIdempotent: head.isIdempotent)
            } else {
                $0.end(head.requestID, attempt: head.attempt, isIdempotent: head.isIdempotent, now: .now())
            }
        }
    }

    /// What the origin did wrong is worth a line; the gateway's access line tells the rest.
    private func report(_ code: HopCode?) {
        let log = owner.shared.log
        let level: Logger.Level =
            switch code {
            case .originUnreachable, .originTimeout, .originProtocol, .originAborted: .warning
            default: .debug
            }
        guard log.logLevel <= level, let head else { return }
        log.log(
            level: level,
            "request",
            metadata: [
                "request_id": "\(head.requestID)", "service": "\(head.service)", "method": "\(head.method)",
                "status": "\(status)", "code": "\(code?.name ?? "OK")",
            ]
        )
    }
}
