import HopProtocol
import NIOCore
import NIOHTTP1
import Observability
import Transport

/// One request on its way: from a public connection over a tunnel stream to an agent, and its response back.
///
/// Lives on the connection's loop. Bytes pass both ways as they come, with back-pressure: the connection stops reading
/// while the stream takes no more, and the stream gets credit when the connection's socket took the response. It ends
/// exactly once, by ``conclude(_:)``.
final class ProxyExchange {
    enum Phase {
        case starting
        /// Sent to an agent; no response head yet.
        case awaitingHead
        /// The final head is with the client.
        case responding
        case done
    }

    let context: ProxyContext
    let resources: LoopResources
    let identity: ClientIdentity
    let request: EdgeRequest
    let id: RequestID
    let idText: String
    let started: NIODeadline

    /// nil once the exchange is over.
    var client: (any ExchangeClient)?
    var phase = Phase.starting
    var match: RouteMatch?
    var attachment: Attachment?
    /// Of the last attempt, for the access line.
    var agent: String?
    var stream: TunnelStream?
    /// The agent of this attempt said ACCEPTED: from then on the request may have started.
    var isAccepted = false
    /// 1xx heads of this attempt.
    var interimHeads = 0
    var decoder: ResponseDecoder
    var attempt: UInt64 = 0
    var tried: [UInt64] = []
    /// Until the response head has to be there.
    var deadline = NIODeadline.distantFuture

    /// The client's side has ended.
    var isRequestOver: Bool
    /// FIN was written.
    var isUploadOver = false
    /// The agent wants no more of the body.
    var isUploadStopped = false
    var isUpgraded = false
    /// Behind a 101: the agent's direction is over.
    var isResponseOver = false
    var replay = ReplayBuffer(limit: EdgeLimits.replay)
    /// Body bytes handed to the connection whose credit was not given back yet.
    var untaken = 0

    // For the access line and the metrics.
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
        self.isRequestOver = request.body == .none
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
        guard phase == .awaitingHead, now >= deadline else { return }
        cancelStream(.deadline)
        refuse(.deadline)
    }

    // MARK: Attempts

    /// Picks an attachment that was not tried and sends the request there.
    ///
    /// - Parameter failure: what the client is told when there is none.
    func open(after failure: ProxyError) {
        guard let match else { preconditionFailure("a request without a route is not sent") }
        switch context.registry.pick(match.target, excluding: tried, random: resources.nextChoice()) {
        case .attachment(let attachment): send(to: attachment, match)
        case .busy: refuse(attempt == 0 ? .busy : failure)
        case .none: refuse(failure)
        }
    }

    private func send(to attachment: Attachment, _ match: RouteMatch) {
        let path = match.forwarded(request.target)
        attempt += 1
        tried.append(attachment.id)
        self.attachment = attachment
        agent = attachment.info.agent
        attachment.began()
        phase = .awaitingHead
        var head = RequestHead(
            requestID: id,
            attempt: attempt,
            run: attachment.info.run,
            method: request.method,
            scheme: "https",
            authority: request.authority,
            path: path,
            service: match.target.service,
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
            attachment.ended()
            self.attachment = nil
            refuse(.headTooLarge)
            return
        }
        let stream = attachment.session.openStream(handler: self, on: resources.loop)
        self.stream = stream
        decoder = ResponseDecoder(method: request.method)
        isAccepted = false
        interimHeads = 0
        untaken = 0
        isUploadStopped = false
        stream.write(bytes)
        writeData(replay.bytes, to: stream)
        // For an upgrade FIN waits: behind a 101 it would end the client's direction.
        if isRequestOver, !request.isWebSocket { finishUpload() }
    }

    func finishUpload() {
        guard !isUploadOver else { return }
        isUploadOver = true
        stream?.finish()
    }

    // MARK: Ends

    /// The client gets an error page; no head was sent to it.
    func refuse(_ refusal: ProxyError) {
        guard phase != .done else { return }
        status = refusal.status
        let client = conclude(refusal)
        client?.sendRefusal(refusal, requestID: idText)
    }

    /// The response cannot be completed: an error page before its head, else it is broken off.
    func fail(_ refusal: ProxyError) {
        switch phase {
        case .done: break
        case .starting, .awaitingHead: refuse(refusal)
        case .responding: conclude(refusal)?.abortResponse()
        }
    }

    /// Lets go of the stream in both directions.
    func cancelStream(_ code: HopCode) {
        guard let stream else { return }
        stream.reset(code: code.rawValue)
        stream.stopSending(code: code.rawValue)
        release()
    }

    /// The stream is over for this exchange.
    func release() {
        stream = nil
        attachment?.ended()
        attachment = nil
    }

    /// Writes the access line and lets everything go; called exactly once. Returns the client for a last word.
    func conclude(_ refusal: ProxyError?) -> (any ExchangeClient)? {
        precondition(phase != .done, "an exchange ends once")
        phase = .done
        record(refusal)
        release()
        replay.drop()
        defer { client = nil }
        return client
    }
}

@available(*, unavailable)
extension ProxyExchange: Sendable {}
