import HopProtocol
import NIOCore
import NIOHTTP1
import NIOSSL
import NIOTLS
import Observability
import Transport

/// One public HTTP/1 connection: gets one request after another from the decoder, gives each to a ``ProxyExchange`` and
/// writes its response.
///
/// Confined to its channel's loop; the pipeline owns it. The channel calls it with parts of requests and events of the
/// socket, the exchange as its ``ExchangeClient`` with the response, and ``EdgeLoopState`` with ``tick(_:)`` for
/// deadlines. Reading is paused by withholding the channel's `read` events: for back-pressure of the request's body,
/// and while pipelined requests wait. Writes are collected and flushed once per turn of the loop.
final class HTTP1Connection: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    enum Role {
        /// Forwards requests.
        case proxy
        /// Redirects known hosts to HTTPS.
        case redirect
    }

    enum Phase: Equatable {
        case handshaking
        /// Between requests.
        case waiting
        /// A head is arriving.
        case readingHead
        /// A request is in progress: its body is read, its response is written.
        case exchanging
        /// A 101 was sent.
        case upgraded
        /// The last response waits for the socket.
        case closing
        /// The output is closed; input is read and dropped.
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
    /// Whether the whole request has arrived.
    var requestReceived = true
    /// Whether the response is complete.
    var responseSent = true
    /// Whether the connection stays open after the current response.
    var keepsAlive = true
    /// Whether the method of the current request is HEAD.
    var isHead = false
    var version = HTTPVersion.http1_1
    var accept = ErrorPage.Format.text
    var framing = ResponseFraming.bodyless
    var trailers: FieldSection?
    /// Parts of pipelined requests behind the current one.
    var pipelined = CircularBuffer<HTTPServerRequestPart>()
    /// The error of the decoder, to be sent once the requests before it have their responses.
    var decoderError: ProxyError?

    /// Output that has not been written to the channel yet.
    var output = ByteBuffer()
    /// Whether the loop's state will flush the connection at the end of this turn.
    var isFlushPending = false
    /// Bytes written to the channel since the last flush.
    var unflushed = 0

    /// Whether reading is paused by back-pressure of the request's body.
    var isPausedByExchange = false
    /// Whether reading is paused because pipelined requests wait, or because the decoder has stopped and would buffer
    /// all input.
    var isPausedByPipeline = false
    /// Whether the decoder stops behind the current request: nothing is read until a 101 or the end.
    var stopsDecoder = false
    /// Whether the channel asked to read while reading was paused.
    var isReadWithheld = false
    /// Whether the decoder has yet to report the end of a request without a body.
    var isEmptyEndDue = false
    /// Whether the decoder produced a part from the bytes of this read.
    var sawPart = false
    /// Whether bytes were transferred since the last tick.
    var hasProgress = false
    /// The number of bytes that waited for the socket at the last tick, or 0.
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
        if let address = context.remoteAddress?.unmapped.ipAddress { client = ClientIdentity(address: address) }
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

    /// Ends the exchange: its client is gone.
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
        if let failure = Self.proxyError(for: error) {
            decoderFailed(failure)
            return
        }
        switch error {
        case NIOSSLError.uncleanShutdown:
            // The channel reports by itself what follows: the end of the input or of the connection.
            break
        case is ByteToMessageDecoderError:
            // More input behind the part that was rejected; the response is being sent.
            break
        case is NIOSSLError where phase == .handshaking:
            proxy.metrics.tlsFailures.increment()
            closeNow()
        default: closeNow()
        }
    }

    private static func proxyError(for error: any Error) -> ProxyError? {
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
        guard pipelined.isEmpty, acceptsParts else {
            pipelined.append(part)
            isPausedByPipeline = true
            if pipelined.count > EdgeLimits.pipelinedParts { closeNow() }
            return
        }
        handle(part)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if phase == .waiting, !sawPart {
            // Bytes arrived without completing a head: one has begun.
            phase = .readingHead
            deadline = .now() + proxy.limits.timeouts.header
        }
        sawPart = false
        context.fireChannelReadComplete()
    }

    /// Whether the next part belongs to the current request, or to one that may begin now.
    private var acceptsParts: Bool {
        switch phase {
        case .waiting, .readingHead: true
        case .exchanging: !requestReceived
        case .handshaking, .upgraded, .closing, .lingering, .closed: false
        }
    }

    private func handle(_ part: HTTPServerRequestPart) {
        switch part {
        case .head(let head): beginRequest(head)
        case .body(let bytes): exchange?.clientBody(bytes)
        case .end(let trailers):
            requestReceived = true
            if stopsDecoder { isPausedByPipeline = true }
            exchange?.clientEnded(trailers: trailers)
        }
    }

    /// Handles the parts that arrived behind the request that has just ended.
    private func handlePipelined() {
        while !pipelined.isEmpty {
            if isEmptyEndDue, case .end? = pipelined.first {
                isEmptyEndDue = false
                pipelined.removeFirst()
                continue
            }
            guard acceptsParts else { return }
            handle(pipelined.removeFirst())
        }
        if let error = decoderError, phase == .waiting {
            decoderFailed(error)
            return
        }
        // The last part may have stopped the decoder.
        isPausedByPipeline = stopsDecoder && requestReceived && phase == .exchanging
        readAgain()
    }

    private func decoderFailed(_ error: ProxyError) {
        switch phase {
        case .handshaking, .waiting, .readingHead:
            rejectInput(error)
        case .exchanging:
            if requestReceived {
                decoderError = error
            } else if let exchange {
                exchange.clientFailed(error)
            } else {
                closeNow()
            }
        case .upgraded, .closing, .lingering, .closed: break
        }
    }

    // MARK: One request

    private func beginRequest(_ head: HTTPRequestHead) {
        let now = NIODeadline.now()
        phase = .exchanging
        deadline = now + proxy.limits.timeouts.bodyIdle
        requestReceived = false
        responseSent = false
        framing = .bodyless
        trailers = nil
        keepsAlive = false
        isHead = head.method == .HEAD
        version = head.version == .http1_0 ? .http1_0 : .http1_1
        let request: EdgeRequest
        switch RequestInspector.inspect(head) {
        case .success(let inspected): request = inspected
        case .failure(let error):
            accept = head.headers.first(name: "accept").map(ErrorPage.Format.init(accept:)) ?? .text
            let id = loopState.resources.makeRequestID().description
            record(error, of: head, requestID: id)
            sendError(error, requestID: id)
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

    /// Redirects the request to HTTPS or forwards it to an agent.
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

    /// Begins the next request, or closes the connection, once both the request and the response are complete.
    func finishRequest() {
        guard phase == .exchanging, requestReceived, responseSent else { return }
        exchange = nil
        guard keepsAlive, !proxy.lifecycle.isDraining else {
            closeAfterFlush()
            return
        }
        phase = .waiting
        deadline = .now() + proxy.limits.timeouts.keepAliveIdle
        // The response may have ended while the body was paused for its stream.
        resumeReading()
        if !pipelined.isEmpty || isPausedByPipeline || decoderError != nil { handlePipelined() }
    }
}

@available(*, unavailable)
extension HTTP1Connection: Sendable {}
