import Cluster
import HopProtocol
import NIOCore
import NIOHTTP1
import Observability
import Transport
import Tunnel

/// One request from a public connection, sent over a tunnel stream to an agent, and its response.
///
/// Confined to the loop of the connection, which owns it as its ``ExchangeClient``. The connection calls ``start()``,
/// ``clientBody(_:)``, ``clientEnded(trailers:)``, ``clientGone()`` and ``tick(_:)``; the stream calls the methods of
/// `StreamHandler`. What each of these leads to is decided by ``ExchangeState``. Bytes pass in both directions as they
/// arrive, with back-pressure: the connection stops reading while the stream is not writable, and the stream gets
/// flow-control credit back once the connection's socket has accepted the response. The exchange ends exactly once, by
/// ``conclude(_:)``.
final class ProxyExchange {
    let context: ProxyContext
    let resources: LoopResources
    let identity: ClientIdentity
    let request: EdgeRequest
    let id: RequestID
    let idText: String
    let started: NIODeadline

    /// `nil` once the exchange has ended.
    var client: (any ExchangeClient)?
    var state: ExchangeState
    var match: RouteMatch?
    /// The place that the present attempt was sent to.
    var upstream: (any Upstream)?
    /// The agent and the service of the last attempt, for the access log.
    var agent: String?
    var service: String?
    /// `nil` between attempts and once the exchange has ended.
    var stream: TunnelStream?
    var decoder: ResponseDecoder
    var attempt: UInt64 = 0
    /// The attachments of earlier attempts.
    var tried: [UpstreamID] = []
    /// The time by which the response head must have arrived.
    var deadline = NIODeadline.distantFuture
    var replay = ReplayBuffer(limit: EdgeLimits.replay)
    /// Body bytes given to the connection whose credit has not been returned yet.
    var uncredited = 0

    // For the access log and the metrics.
    var status = 0
    var bytesIn = 0
    var bytesOut = 0
    var firstByte: NIODeadline?

    init(
        context: ProxyContext,
        resources: LoopResources,
        client: any ExchangeClient,
        identity: ClientIdentity,
        request: EdgeRequest,
        now: NIODeadline
    ) {
        self.context = context
        self.resources = resources
        self.client = client
        self.identity = identity
        self.request = request
        self.started = now
        self.id = resources.makeRequestID()
        self.idText = id.description
        self.decoder = ResponseDecoder(method: request.method)
        self.state = ExchangeState(hasBody: request.body != .none, isWebSocket: request.isWebSocket)
        context.metrics.inFlight.increment()
    }

    func start() {
        switch context.router.route(host: request.host, target: request.target) {
        case .match(let match): self.match = match
        case .unknownHost, .unknownPath:
            refuse(.unknownHost)
            return
        case .badPath:
            refuse(.ambiguousPath)
            return
        }
        if request.body == .none { startResponseTimer(started) }
        open(after: .noAgent)
    }

    func startResponseTimer(_ now: NIODeadline) {
        deadline = now + (match?.target.timeout ?? context.limits.timeouts.responseHead)
    }

    func tick(_ now: NIODeadline) {
        guard state.isAwaitingHead, now >= deadline else { return }
        cancelStream(.deadline)
        refuse(.deadline)
    }

    // MARK: Attempts

    /// Picks an attachment that has not been tried and sends the request to it.
    ///
    /// - Parameter error: The response to the client if there is none.
    func open(after error: ProxyError) {
        guard let match else { preconditionFailure("a request without a route is not sent") }
        switch context.registry.pick(match.target, excluding: tried, random: resources.nextChoice()) {
        case .upstream(let upstream, let service): send(to: upstream, service: service, match)
        case .busy: refuse(attempt == 0 ? .busy : error)
        case .none: refuse(error)
        }
    }

    private func send(to upstream: any Upstream, service: String, _ match: RouteMatch) {
        let path = match.forwarded(request.target)
        attempt += 1
        tried.append(upstream.upstreamID)
        self.upstream = upstream
        agent = upstream.info.agent
        self.service = service
        upstream.requestStarted()
        if upstream.replica != nil { context.metrics.forwards[.sent].increment() }
        let finishes = state.attemptStarted()
        var head = RequestHead(
            requestID: id,
            attempt: attempt,
            run: upstream.info.run,
            method: request.method,
            scheme: "https",
            authority: request.authority,
            path: path,
            service: service,
            fields: request.forwardedFields(client: identity, scheme: "https", requestID: idText)
        )
        if request.body == .none {
            head.deadline = attempt == 1 ? deadline - started : max(.milliseconds(1), deadline - .now())
        }
        var bytes = ByteBuffer()
        bytes.reserveCapacity(head.fields.bytes.readableBytes + path.utf8.count + 256)
        do {
            try MessageEncoder.writeRequestHead(head, into: &bytes)
        } catch {
            upstream.requestEnded()
            self.upstream = nil
            refuse(.headTooLarge)
            return
        }
        let stream = upstream.openStream(handler: self, on: resources.loop)
        self.stream = stream
        decoder = ResponseDecoder(method: request.method)
        uncredited = 0
        stream.write(bytes)
        writeData(replay.bytes, to: stream)
        if finishes { stream.finish() }
    }

    // MARK: Ends

    /// Ends the exchange with an error page. No response head has been sent.
    func refuse(_ error: ProxyError) {
        guard !state.isOver else { return }
        status = error.status
        let client = conclude(error)
        client?.sendError(error, requestID: idText)
    }

    /// Ends an exchange whose response cannot be completed: with an error page before its head, otherwise by aborting
    /// it.
    func fail(_ error: ProxyError) {
        if state.hasResponded {
            conclude(error)?.abortResponse()
        } else {
            refuse(error)
        }
    }

    /// Resets both directions of the stream.
    func cancelStream(_ code: HopCode) {
        guard let stream else { return }
        stream.reset(code.wireCode)
        stream.stopSending(code.wireCode)
        release()
    }

    /// Releases the stream and the place that the request took at its attachment.
    func release() {
        stream = nil
        upstream?.requestEnded()
        upstream = nil
    }

    /// Records the exchange and releases everything. Called exactly once.
    ///
    /// - Returns: The client, for the last call to it.
    func conclude(_ error: ProxyError?) -> (any ExchangeClient)? {
        state.conclude()
        record(error)
        release()
        replay.drop()
        defer { client = nil }
        return client
    }
}

@available(*, unavailable)
extension ProxyExchange: Sendable {}
