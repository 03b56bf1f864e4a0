import HopProtocol
import NIOCore
import NIOHTTP1
import NIOSSL
import NIOTLS
import Observability

/// One public HTTP/1 connection: takes one request after the other from the decoder, hands each to an ``ProxyExchange`` and
/// writes the response.
///
/// Confined to its channel's loop. Reading stops by withholding the channel's `read` events: for the request's
/// back-pressure, and when pipelined requests wait. Writes are collected and flushed once a turn of the loop.
final class HTTP1Connection: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    enum Role {
        /// Forwards requests.
        case proxy
        /// Plain HTTP: sends known hosts to HTTPS.
        case redirect
    }

    enum Phase: Equatable {
        case handshaking
        /// Between requests.
        case waiting
        /// A head is arriving.
        case readingHead
        /// A request is under way: its body is read, its response written.
        case exchanging
        /// Behind a 101.
        case upgraded
        /// The last response is on its way into the socket.
        case closing
        /// Our side is closed; what the client still sends is read and dropped.
        case lingering
        case closed
    }

    let edge: EdgeContext
    let proxy: ProxyContext
    let loopState: EdgeLoopState
    let role: Role
    let decoder: ByteToMessageHandler<HTTPRequestDecoder>
    var indexInLoop: Int?

    var context: ChannelHandlerContext?
    var phase: Phase
    var deadline: NIODeadline
    var client = ClientIdentity(address: "unknown")

    var exchange: ProxyExchange?
    /// The whole request has arrived.
    var requestReceived = true
    /// The response is complete.
    var responseSent = true
    var keepsAlive = true
    var isHead = false
    var version = HTTPVersion.http1_1
    var accept = ErrorPage.Format.text
    var framing = ResponseFraming.noBody
    var trailers: FieldSection?
    /// Parts that arrived behind the current request.
    var pipelined = CircularBuffer<HTTPServerRequestPart>()
    /// The decoder gave up; answered when the requests before were.
    var decoderRefusal: ProxyError?

    /// Bytes to write, not yet given to the channel.
    var output = ByteBuffer()
    var isFlushPending = false
    /// Bytes given to the channel since the last flush.
    var unflushed = 0

    /// Back-pressure of the request's body.
    var isPausedByExchange = false
    /// Pipelined requests wait, or the decoder takes no more and would keep all that is read.
    var isPausedByPipeline = false
    /// The decoder stops behind the request under way: nothing is read until a 101 or the end.
    var stopsDecoder = false
    var isReadWithheld = false
    /// The decoder has yet to say that a request without a body is over.
    var isEmptyEndDue = false
    /// The decoder made something of the bytes of this read.
    var sawPart = false
    /// Bytes moved since the last tick.
    var hasProgress = false
    /// What stood in the socket's queue at the last tick, 0: nothing.
    var stalledBytes = 0
    var stallDeadline = NIODeadline.distantFuture

    init(edge: EdgeContext, loopState: EdgeLoopState, role: Role, isTLS: Bool, now: NIODeadline) {
        self.edge = edge
        self.proxy = edge.proxy
        self.loopState = loopState
        self.role = role
        self.phase = isTLS ? .handshaking : .waiting
        self.deadline = now + (isTLS ? proxy.limits.timeouts.tlsHandshake : proxy.limits.timeouts.header)
        self.decoder = ByteToMessageHandler(
            HTTPRequestDecoder(
                leftOverBytesStrategy: .forwardBytes,
                limitConfiguration: EdgeLimits.decoder
            )
        )
    }

    // MARK: The channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        loopState.add(self)
        if let address = context.remoteAddress?.ipAddress { client = ClientIdentity(address: address) }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        leave()
        self.context = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        leave()
        context.fireChannelInactive()
    }

    private func leave() {
        guard phase != .closed else { return }
        phase = .closed
        loopState.remove(self)
        pipelined.removeAll()
        output = ByteBuffer()
        dropExchange()
    }

    /// The exchange learns that its client is gone.
    func dropExchange() {
        let exchange = exchange
        self.exchange = nil
        exchange?.clientGone()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case TLSUserEvent.handshakeCompleted:
            if phase == .handshaking {
                phase = .waiting
                deadline = .now() + proxy.limits.timeouts.header
            }
        case ChannelEvent.inputClosed:
            // Half-closure is allowed behind a 101 only.
            exchange?.clientEnded(trailers: nil)
        default: break
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if let refusal = Self.refusal(for: error) {
            decoderFailed(refusal)
            return
        }
        switch error {
        case NIOSSLError.uncleanShutdown:
            // The channel says by itself what follows: the end of the input or of the connection.
            break
        case is ByteToMessageDecoderError:
            // More bytes behind the ones that were refused; the refusal is on its way.
            break
        case is NIOSSLError where phase == .handshaking:
            proxy.metrics.tlsFailures.increment()
            closeNow()
        default: closeNow()
        }
    }

    private static func refusal(for error: any Error) -> ProxyError? {
        guard let error = error as? HTTPParserError else { return nil }
        switch error {
        case .headerOverflow: return .headTooLarge
        case .invalidVersion: return .badVersion
        case .invalidURL: return .badTarget
        case .invalidContentLength, .unexpectedContentLength, .invalidChunkSize: return .badFraming
        default: return .malformed
        }
    }

    // MARK: Reading

    var isReadingPaused: Bool { isPausedByExchange || isPausedByPipeline }

    func read(context: ChannelHandlerContext) {
        if isReadingPaused {
            isReadWithheld = true
        } else {
            context.read()
        }
    }

    func pauseReading() { isPausedByExchange = true }

    func resumeReading() {
        isPausedByExchange = false
        readAgain()
    }

    func readAgain() {
        guard !isReadingPaused else { return }
        hasProgress = true
        if isReadWithheld {
            isReadWithheld = false
            context?.read()
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let part = unwrapInboundIn(data)
        sawPart = true
        hasProgress = true
        if isEmptyEndDue, case .end = part {
            isEmptyEndDue = false
            return
        }
        switch phase {
        case .closing, .lingering, .closed, .upgraded: return
        case .handshaking, .waiting, .readingHead, .exchanging: break
        }
        guard pipelined.isEmpty, isTakingParts else {
            pipelined.append(part)
            isPausedByPipeline = true
            if pipelined.count > EdgeLimits.pipelinedParts { closeNow() }
            return
        }
        take(part)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if phase == .waiting, !sawPart {
            // Bytes came and no head: one has begun.
            phase = .readingHead
            deadline = .now() + proxy.limits.timeouts.header
        }
        sawPart = false
        context.fireChannelReadComplete()
    }

    /// The next part belongs to the request under way, or to one that may begin now.
    private var isTakingParts: Bool {
        switch phase {
        case .waiting, .readingHead: true
        case .exchanging: !requestReceived
        case .handshaking, .upgraded, .closing, .lingering, .closed: false
        }
    }

    private func take(_ part: HTTPServerRequestPart) {
        switch part {
        case .head(let head): begin(head)
        case .body(let bytes): exchange?.clientBody(bytes)
        case .end(let trailers):
            requestReceived = true
            if stopsDecoder { isPausedByPipeline = true }
            exchange?.clientEnded(trailers: trailers)
        }
    }

    /// Takes what arrived behind the request that is over now.
    private func takePipelined() {
        while !pipelined.isEmpty {
            if isEmptyEndDue, case .end? = pipelined.first {
                isEmptyEndDue = false
                pipelined.removeFirst()
                continue
            }
            guard isTakingParts else { return }
            take(pipelined.removeFirst())
        }
        if let refusal = decoderRefusal, phase == .waiting {
            decoderFailed(refusal)
            return
        }
        // The last of them may have stopped the decoder.
        isPausedByPipeline = stopsDecoder && requestReceived && phase == .exchanging
        readAgain()
    }

    private func decoderFailed(_ refusal: ProxyError) {
        switch phase {
        case .handshaking, .waiting, .readingHead:
            refuseWithoutExchange(refusal)
        case .exchanging:
            if requestReceived {
                decoderRefusal = refusal
            } else if let exchange {
                exchange.clientBroke(refusal)
            } else {
                closeNow()
            }
        case .upgraded, .closing, .lingering, .closed: break
        }
    }

    // MARK: One request

    private func begin(_ head: HTTPRequestHead) {
        let now = NIODeadline.now()
        phase = .exchanging
        deadline = now + proxy.limits.timeouts.bodyIdle
        requestReceived = false
        responseSent = false
        framing = .noBody
        trailers = nil
        keepsAlive = false
        isHead = head.method == .HEAD
        version = head.version == .http1_0 ? .http1_0 : .http1_1
        let request: EdgeRequest
        switch RequestInspector.inspect(head) {
        case .success(let inspected): request = inspected
        case .failure(let refusal):
            accept = head.headers.first(name: "accept").map(ErrorPage.Format.init(accept:)) ?? .text
            let id = loopState.resources.makeRequestID().description
            record(refusal, of: head, requestID: id)
            sendError(refusal, requestID: id)
            return
        }
        accept = request.accept
        stopsDecoder = request.stopsDecoder
        if request.body == .none {
            requestReceived = true
            isEmptyEndDue = true
            if stopsDecoder { isPausedByPipeline = true }
        }
        keepsAlive = request.keepsAlive && !request.stopsDecoder && !proxy.lifecycle.isDraining
        if !answerChallenge(request, now: now) { forward(request, now: now) }
    }

    /// Hands the request on, to HTTPS or to an agent.
    func forward(_ request: EdgeRequest, now: NIODeadline) {
        if role == .redirect {
            redirect(request, now: now)
            return
        }
        let exchange = ProxyExchange(
            context: proxy,
            resources: loopState.resources,
            client: self,
            identity: client,
            request: request,
            now: now
        )
        self.exchange = exchange
        exchange.start()
    }

    /// The response is complete and the request has arrived: on to the next one, or to the end.
    func finishRequest() {
        guard phase == .exchanging, requestReceived, responseSent else { return }
        exchange = nil
        guard keepsAlive, !proxy.lifecycle.isDraining else {
            closeAfterFlush()
            return
        }
        phase = .waiting
        deadline = .now() + proxy.limits.timeouts.keepAliveIdle
        // A body that was paused for its stream may have ended with the response, before the stream took more.
        resumeReading()
        if !pipelined.isEmpty || isPausedByPipeline || decoderRefusal != nil { takePipelined() }
    }
}

@available(*, unavailable)
extension HTTP1Connection: Sendable {}
