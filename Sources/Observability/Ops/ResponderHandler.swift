import NIOCore
import NIOHTTP1

/// Answers the requests of one connection of a ``ResponderServer``, each with a deadline.
final class ResponderHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let limits: ResponderLimits
    private let respond: @Sendable (ResponderRequest) -> ResponderAnswer
    private var deadline: Scheduled<Void>?
    /// Between the head and the end of a request, unless it was answered early.
    private var request: HTTPRequestHead?
    private var body = ByteBuffer()
    private var isClosing = false

    init(limits: ResponderLimits, respond: @escaping @Sendable (ResponderRequest) -> ResponderAnswer) {
        self.limits = limits
        self.respond = respond
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.close(context, in: self.limits.requestTimeout)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.deadline?.cancel()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !self.isClosing else { return }
        switch self.unwrapInboundIn(data) {
        case .head(let head):
            self.request = head
            self.body.clear()
        case .body(var bytes):
            guard let head = self.request else { return }
            if self.limits.maximumBody == 0 {
                self.answer(head, context, keepAlive: false)
            } else if self.body.readableBytes + bytes.readableBytes > self.limits.maximumBody {
                let limit = "a body has at most \(self.limits.maximumBody) bytes\n"
                self.send(ResponderAnswer(.payloadTooLarge, body: ByteBuffer(string: limit)), head, context, false)
            } else {
                self.body.writeBuffer(&bytes)
            }
        case .end:
            guard let head = self.request else { return }
            self.answer(head, context, keepAlive: head.isKeepAlive)
        }
    }

    private func answer(_ head: HTTPRequestHead, _ context: ChannelHandlerContext, keepAlive: Bool) {
        let request = ResponderRequest(
            method: head.method,
            path: String(head.uri.prefix { $0 != "?" }),
            fields: head.headers,
            body: self.body,
            remote: context.remoteAddress
        )
        self.send(self.respond(request), head, context, keepAlive)
    }

    private func send(
        _ answer: ResponderAnswer,
        _ head: HTTPRequestHead,
        _ context: ChannelHandlerContext,
        _ keepAlive: Bool
    ) {
        self.request = nil
        self.body = ByteBuffer()
        var fields: HTTPHeaders = [
            "content-type": answer.type,
            "content-length": String(answer.body.readableBytes),
            "cache-control": "no-store",
        ]
        for field in answer.fields { fields.add(name: field.name, value: field.value) }
        if !keepAlive { fields.add(name: "connection", value: "close") }
        let response = HTTPResponseHead(version: .http1_1, status: answer.status, headers: fields)
        context.write(self.wrapOutboundOut(.head(response)), promise: nil)
        if head.method != .HEAD {
            context.write(self.wrapOutboundOut(.body(.byteBuffer(answer.body))), promise: nil)
        }
        self.isClosing = !keepAlive
        self.close(context, in: self.limits.responseTimeout)
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.writeAndFlush(self.wrapOutboundOut(.end(nil))).whenComplete { result in
            handler.value.answered(bound.value, isSent: (try? result.get()) != nil)
        }
    }

    private func answered(_ context: ChannelHandlerContext, isSent: Bool) {
        guard isSent, !self.isClosing else { return context.close(promise: nil) }
        self.close(context, in: self.limits.requestTimeout)
    }

    /// Moves the connection's only deadline.
    private func close(_ context: ChannelHandlerContext, in time: TimeAmount) {
        self.deadline?.cancel()
        let channel = context.channel
        self.deadline = context.eventLoop.scheduleTask(in: time) { channel.close(promise: nil) }
    }
}
