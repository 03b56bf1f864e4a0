import NIOCore

/// The upgraded connection behind a 101: raw bytes in both directions, each of which ends by itself.
extension HTTP1Connection {
    /// Replaces the HTTP decoder by a handler for raw bytes.
    func upgrade() {
        guard let context, phase == .exchanging else { return }
        phase = .upgraded
        deadline = .now() + proxy.limits.timeouts.webSocketIdle
        try? context.channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
        do {
            let pipeline = context.pipeline.syncOperations
            let decoderContext = try pipeline.context(handler: decoder)
            try pipeline.addHandler(UpgradedInput(connection: self), position: .after(decoder))
            // The bytes that the decoder holds beyond the request are passed on to the new handler.
            pipeline.removeHandler(context: decoderContext, promise: nil)
        } catch {
            closeNow()
            return
        }
        isPausedByPipeline = false
        readAgain()
    }

    func receiveUpgraded(_ bytes: ByteBuffer) {
        guard phase == .upgraded, let exchange, !exchange.state.isOver else { return }
        hasProgress = true
        exchange.clientBody(bytes)
    }

    /// The agent has ended its direction: closes the output once the socket has accepted everything.
    func closeUpgradedOutput() {
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

/// A handler in the place of the HTTP decoder that passes bytes on to the connection.
private final class UpgradedInput: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let connection: HTTP1Connection

    init(connection: HTTP1Connection) {
        self.connection = connection
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        connection.receiveUpgraded(unwrapInboundIn(data))
    }
}
