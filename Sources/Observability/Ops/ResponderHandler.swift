import NIOCore
import NIOHTTP1

/// The handler of one connection of a ``ResponderServer``. The connection has one deadline, which is moved with each
/// request and response and closes it when it passes.
final class ResponderHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let limits: ResponderLimits
    private let respond: @Sendable (ResponderRequest) -> ResponderAnswer
    private var deadline: Scheduled<Void>?
    /// The head of the current request, or `nil` between requests and after an early answer.
    private var request: HTTPRequestHead?
    private var body = ByteBuffer()
    private var isClosing = false

    init(limits: ResponderLimits, respond: @escaping @Sendable (ResponderRequest) -> ResponderAnswer) {
        self.limits = limits
        self.respond = respond
    }

    func handlerAdded(context: ChannelHandlerContext) {
        close(context, in: limits.requestTimeout)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        deadline?.cancel()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isClosing else { return }
        switch unwrapInboundIn(data) {
        case .head(let head):
            request = head
            body.clear()
        case .body(var bytes):
            guard let head = request else { return }
            if limits.maximumBody == 0 {
                answer(head, context, keepAlive: false)
            } else if body.readableBytes + bytes.readableBytes > limits.maximumBody {
                let limit = "a body has at most \(limits.maximumBody) bytes\n"
                send(ResponderAnswer(.payloadTooLarge, body: ByteBuffer(string: limit)), head, context, false)
            } else {
                body.writeBuffer(&bytes)
            }
        case .end:
            guard let head = request else { return }
            answer(head, context, keepAlive: head.isKeepAlive)
        }
    }

    private func answer(_ head: HTTPRequestHead, _ context: ChannelHandlerContext, keepAlive: Bool) {
        let parts = head.uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let request = ResponderRequest(
            method: head.method,
            path: String(parts[0]),
            query: parts.count > 1 ? String(parts[1]) : "",
            fields: head.headers,
            body: body,
            remote: context.remoteAddress
        )
        send(respond(request), head, context, keepAlive)
    }

    private func send(
        _ answer: ResponderAnswer,
        _ head: HTTPRequestHead,
        _ context: ChannelHandlerContext,
        _ keepAlive: Bool
    ) {
        request = nil
        body = ByteBuffer()
        var fields: HTTPHeaders = [
            "content-type": answer.type,
            "content-length": String(answer.body.readableBytes),
            "cache-control": "no-store",
        ]
        for field in answer.fields { fields.add(name: field.name, value: field.value) }
        if !keepAlive { fields.add(name: "connection", value: "close") }
        let response = HTTPResponseHead(version: .http1_1, status: answer.status, headers: fields)
        context.write(wrapOutboundOut(.head(response)), promise: nil)
        if head.method != .HEAD {
            context.write(wrapOutboundOut(.body(.byteBuffer(answer.body))), promise: nil)
        }
        isClosing = !keepAlive
        close(context, in: limits.responseTimeout)
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { result in
            handler.value.answered(bound.value, isSent: (try? result.get()) != nil)
        }
    }

    private func answered(_ context: ChannelHandlerContext, isSent: Bool) {
        guard isSent, !isClosing else { return context.close(promise: nil) }
        close(context, in: limits.requestTimeout)
    }

    /// Sets the connection's deadline, replacing the previous one.
    private func close(_ context: ChannelHandlerContext, in time: TimeAmount) {
        deadline?.cancel()
        let channel = context.channel
        deadline = context.eventLoop.scheduleTask(in: time) { channel.close(promise: nil) }
    }
}
