import NIOCore

/// Behind a 101 the connection carries raw bytes both ways; the end of one direction says nothing of the other.
extension HTTP1Connection {
    func becomeRaw() {
        guard let context, phase == .exchanging else { return }
        phase = .upgraded
        deadline = .now() + proxy.limits.timeouts.webSocketIdle
        try? context.channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
        do {
            let pipeline = context.pipeline.syncOperations
            let decoderContext = try pipeline.context(handler: decoder)
            try pipeline.addHandler(RawInlet(connection: self), position: .after(decoder))
            // What the decoder holds beyond the request is passed on to the inlet.
            pipeline.removeHandler(context: decoderContext, promise: nil)
        } catch {
            closeNow()
            return
        }
        isPausedByPipeline = false
        readAgain()
    }

    func receivedRaw(_ bytes: ByteBuffer) {
        guard phase == .upgraded, let exchange, !exchange.state.isOver else { return }
        hasProgress = true
        exchange.clientBody(bytes)
    }

    /// The agent's direction is over.
    func closeRawOutput() {
        guard let context else { return }
        responseSent = true
        let promise = context.eventLoop.makePromise(of: Void.self)
        promise.futureResult.assumeIsolated().whenComplete { _ in
            self.context?.close(mode: .output, promise: nil)
        }
        let bytes = output
        output = ByteBuffer()
        isFlushPending = false
        unflushed = 0
        context.writeAndFlush(wrapOutboundOut(bytes), promise: promise)
    }
}

/// Takes the bytes that the HTTP decoder would have taken.
private final class RawInlet: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let connection: HTTP1Connection

    init(connection: HTTP1Connection) {
        self.connection = connection
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        connection.receivedRaw(unwrapInboundIn(data))
    }
}
