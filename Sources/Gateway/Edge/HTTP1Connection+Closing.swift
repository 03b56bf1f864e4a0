import Glibc
import NIOCore
import NIOSSL

/// Deadlines, and the ways in which a connection ends.
extension HTTP1Connection {
    func tick(_ now: NIODeadline) {
        switch phase {
        case .handshaking:
            if now >= deadline { closeWithoutNotice(reset: false) }
        case .waiting:
            if now >= deadline { closeNow() }
        case .readingHead:
            if now >= deadline { rejectInput(.headerTimeout) }
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

    /// Ends a request whose client sends no body byte although the connection reads.
    private func tickBody(_ now: NIODeadline) {
        if hasProgress || isReadingPaused {
            hasProgress = false
            deadline = now + proxy.limits.timeouts.bodyIdle
        } else if now >= deadline {
            if let exchange {
                exchange.clientFailed(.bodyTimeout)
            } else {
                closeNow()
            }
        }
    }

    /// Ends a connection whose client reads no byte of the output that waits for it.
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
            exchange?.clientFailed(.clientStalled)
            closeWithoutNotice(reset: true)
        }
    }

    /// Closes the connection if it is idle. Otherwise it closes after its response.
    func drain() {
        switch phase {
        case .waiting: closeNow()
        case .handshaking, .readingHead, .exchanging, .upgraded, .closing, .lingering, .closed: break
        }
    }

    /// Closes the connection once the socket has accepted the output.
    func closeAfterFlush() {
        guard phase != .closing, phase != .lingering, phase != .closed, let context else { return }
        phase = .closing
        exchange = nil
        let isRequestOver = requestReceived && decoderError == nil
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
        // Reading continues so that a disconnect is noticed; the bytes are dropped.
        try? context.pipeline.syncOperations.addHandler(InboundDrain(), position: .before(decoder))
        isPausedByExchange = false
        isPausedByPipeline = false
        readAgain()
    }

    /// Closes the output and reads on for a while: the client is still sending, and closing now would make its kernel
    /// discard the response (RFC 9112 §9.6).
    private func lingerBeforeClose() {
        guard let context else { return }
        phase = .lingering
        deadline = .now() + proxy.limits.linger
        context.close(mode: .output, promise: nil)
    }

    /// Closes the connection with close_notify. Output that the socket has not accepted is lost.
    func closeNow() {
        guard phase != .closed, let context else { return }
        end()
        context.close(promise: nil)
    }

    /// Stops processing input and output. The caller closes the channel.
    private func end() {
        phase = .lingering
        deadline = .distantFuture
        dropExchange()
    }

    /// Closes the connection without TLS's close_notify, so that a truncated response does not look complete.
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

/// A handler in front of the decoder of a closing connection that drops all input: a decoder that has stopped behind an
/// upgrade would buffer it.
private final class InboundDrain: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {}
}
