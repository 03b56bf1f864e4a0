import Glibc
import NIOCore
import NIOSSL

/// Deadlines and the ways in which a connection ends.
extension HTTP1Connection {
    func tick(_ now: NIODeadline) {
        switch phase {
        case .handshaking:
            if now >= deadline { closeWithoutNotice(reset: false) }
        case .waiting:
            if now >= deadline { closeNow() }
        case .readingHead:
            if now >= deadline { refuseWithoutExchange(.headerTimeout) }
        case .exchanging:
            if !requestReceived { tickBody(now) }
            if phase == .exchanging { tickOutput(now) }
            exchange?.tick(now)
        case .upgraded:
            if hasProgress {
                hasProgress = false
                deadline = now + proxy.limits.timeouts.webSocketIdle
            } else if now >= deadline {
                closeNow()
                return
            }
            tickOutput(now)
        case .closing: tickOutput(now)
        case .lingering:
            if now >= deadline { closeNow() }
        case .closed: break
        }
    }

    /// A client that sends nothing of its body although we would read.
    private func tickBody(_ now: NIODeadline) {
        if hasProgress || isReadingPaused {
            hasProgress = false
            deadline = now + proxy.limits.timeouts.bodyIdle
        } else if now >= deadline {
            if let exchange {
                exchange.clientBroke(.bodyTimeout)
            } else {
                closeNow()
            }
        }
    }

    /// A client that takes nothing of what stands in the socket.
    private func tickOutput(_ now: NIODeadline) {
        guard let context, !context.channel.isWritable || phase == .closing else {
            stalledBytes = 0
            return
        }
        let waiting = (try? context.channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
        if waiting != stalledBytes || stalledBytes == 0 {
            stalledBytes = max(1, waiting)
            stallDeadline = now + proxy.limits.timeouts.bodyIdle
        } else if now >= stallDeadline {
            exchange?.clientBroke(.clientStalled)
            closeWithoutNotice(reset: true)
        }
    }

    /// The listener is going away: idle connections end now, the others with their response.
    func drain() {
        switch phase {
        case .waiting: closeNow()
        case .handshaking, .readingHead, .exchanging, .upgraded, .closing, .lingering, .closed: break
        }
    }

    /// Ends the connection once the socket has taken what was written.
    func closeAfterFlush() {
        guard phase != .closing, phase != .lingering, phase != .closed, let context else { return }
        phase = .closing
        exchange = nil
        let isRequestOver = requestReceived && decoderRefusal == nil
        isFlushPending = false
        unflushed = 0
        let promise = context.eventLoop.makePromise(of: Void.self)
        promise.futureResult.assumeIsolated().whenComplete { _ in
            guard self.phase == .closing else { return }
            if isRequestOver { self.closeNow() } else { self.lingerBeforeClose() }
        }
        let bytes = output
        output = ByteBuffer()
        context.writeAndFlush(wrapOutboundOut(bytes), promise: promise)
        // Reading goes on, so that a client that leaves is noticed; nothing of it is kept.
        try? context.pipeline.syncOperations.addHandler(InboundDrain(), position: .before(decoder))
        isPausedByExchange = false
        isPausedByPipeline = false
        readAgain()
    }

    /// Our side is over, the client is still sending. Closing now would make its kernel drop our response (RFC 9112 §9.6).
    private func lingerBeforeClose() {
        guard let context else { return }
        phase = .lingering
        deadline = .now() + proxy.limits.linger
        context.close(mode: .output, promise: nil)
    }

    /// Ends the connection in an orderly way; what the socket has not taken is lost.
    func closeNow() {
        guard phase != .closed, let context else { return }
        end()
        context.close(promise: nil)
    }

    /// Nothing is taken or sent any more; the channel's own end is due.
    private func end() {
        phase = .lingering
        deadline = .distantFuture
        dropExchange()
    }

    /// Ends the connection without TLS's close_notify, so that nothing that was sent looks complete.
    func closeWithoutNotice(reset: Bool) {
        guard phase != .closed, let context else { return }
        end()
        if reset {
            // Linger of zero seconds: the kernel sends RST.
            _ = (context.channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
        }
        if let tls = try? context.pipeline.syncOperations.context(handlerType: NIOSSLServerHandler.self) {
            tls.close(promise: nil)
        } else {
            context.close(promise: nil)
        }
    }
}

/// Stands in front of the decoder of a connection that is closing and drops what arrives: a decoder that has stopped
/// behind an upgrade would keep it all.
private final class InboundDrain: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {}
}
