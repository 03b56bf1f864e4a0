import NIOCore
import NIOHTTP1

/// Answers the requests of one ops connection, each with a deadline. Bodies of requests are not read: a request that
/// brings one is answered and the connection closed.
final class OpsHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let sources: OpsSources
    private let configuration: OpsServerConfiguration
    private var deadline: Scheduled<Void>?
    /// Between the head and the end of a request, unless it was answered early.
    private var request: HTTPRequestHead?
    private var isClosing = false

    init(sources: OpsSources, configuration: OpsServerConfiguration) {
        self.sources = sources
        self.configuration = configuration
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.close(context, in: self.configuration.requestTimeout)
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
        case .body:
            guard let head = self.request else { return }
            self.request = nil
            self.answer(head, context, keepAlive: false)
        case .end:
            guard let head = self.request else { return }
            self.request = nil
            self.answer(head, context, keepAlive: head.isKeepAlive)
        }
    }

    private func answer(_ head: HTTPRequestHead, _ context: ChannelHandlerContext, keepAlive: Bool) {
        let answer = self.answer(to: head)
        var fields: HTTPHeaders = [
            "content-type": answer.type,
            "content-length": String(answer.body.readableBytes),
            "cache-control": "no-store",
        ]
        if answer.status == .methodNotAllowed { fields.add(name: "allow", value: "GET, HEAD") }
        if !keepAlive { fields.add(name: "connection", value: "close") }
        let response = HTTPResponseHead(version: .http1_1, status: answer.status, headers: fields)
        context.write(self.wrapOutboundOut(.head(response)), promise: nil)
        if head.method != .HEAD {
            context.write(self.wrapOutboundOut(.body(.byteBuffer(answer.body))), promise: nil)
        }
        self.isClosing = !keepAlive
        self.close(context, in: self.configuration.responseTimeout)
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.writeAndFlush(self.wrapOutboundOut(.end(nil))).whenComplete { result in
            handler.value.answered(bound.value, isSent: (try? result.get()) != nil)
        }
    }

    private func answered(_ context: ChannelHandlerContext, isSent: Bool) {
        guard isSent, !self.isClosing else { return context.close(promise: nil) }
        self.close(context, in: self.configuration.requestTimeout)
    }

    /// Moves the connection's only deadline.
    private func close(_ context: ChannelHandlerContext, in time: TimeAmount) {
        self.deadline?.cancel()
        let channel = context.channel
        self.deadline = context.eventLoop.scheduleTask(in: time) { channel.close(promise: nil) }
    }
}

extension OpsHandler {
    private struct Answer {
        var status: HTTPResponseStatus
        var type = "text/plain; charset=utf-8"
        var body: ByteBuffer
    }

    /// Whatever follows `?` is ignored.
    private func answer(to head: HTTPRequestHead) -> Answer {
        let path = head.uri.prefix { $0 != "?" }
        guard ["/healthz", "/readyz", "/metrics"].contains(path) else {
            return Answer(status: .notFound, body: ByteBuffer(string: "not found\n"))
        }
        guard head.method == .GET || head.method == .HEAD else {
            return Answer(status: .methodNotAllowed, body: ByteBuffer(string: "GET and HEAD only\n"))
        }
        switch path {
        case "/healthz":
            let isHealthy = self.sources.isHealthy()
            return Answer(
                status: isHealthy ? .ok : .serviceUnavailable,
                body: ByteBuffer(string: isHealthy ? "ok\n" : "an event loop stands still\n")
            )
        case "/readyz":
            let readiness = self.sources.readiness()
            return Answer(
                status: readiness.isReady ? .ok : .serviceUnavailable,
                type: "application/json",
                body: ByteBuffer(bytes: readiness.json)
            )
        default:
            var body = ByteBuffer()
            self.sources.metrics.write(into: &body)
            return Answer(status: .ok, type: "text/plain; version=0.0.4; charset=utf-8", body: body)
        }
    }
}
