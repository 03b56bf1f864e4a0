package import NIOCore
import NIOSSL

/// The handler before the TLS handler of a public connection while a TLS-ALPN-01 challenge is pending. It holds the
/// first bytes back until ``ClientHelloPeek`` has found out whether the client is a validator, then forwards them
/// unchanged and removes itself.
///
/// - If the hello is an ordinary one, cannot be parsed, or is not complete after ``helloTimeout``, the TLS handler
///   receives the bytes as if this handler were not there.
/// - If the client offers only `acme-tls/1` and the name has a challenge, a TLS handler with the challenge's
///   certificate replaces the other one, and the connection is closed after the handshake.
/// - If the client offers only `acme-tls/1` and the name has no challenge, a fatal alert is sent and the connection is
///   closed.
///
/// A handler before this one may have removed a prefix from the stream: the first byte received here has to be the
/// first byte of TLS.
package final class ClientHelloHandler: ChannelInboundHandler, RemovableChannelHandler {
    package typealias InboundIn = ByteBuffer
    package typealias InboundOut = ByteBuffer
    package typealias OutboundOut = ByteBuffer

    /// The time from the first byte to the end of the hello. The timeout of the whole handshake is enforced by the HTTP
    /// connection.
    package static let helloTimeout = TimeAmount.seconds(5)

    /// A record with the fatal alert unrecognized_name (RFC 8446 §6.2, RFC 6066 §3).
    private static let unrecognizedName: [UInt8] = [21, 3, 3, 0, 2, 2, 112]

    private enum Phase {
        case inspecting
        case forwarded
        case rejected
    }

    private let challenges: ALPNChallenges
    private var ordinary: (any RemovableChannelHandler)?
    private var phase = Phase.inspecting
    private var peek = ClientHelloPeek()
    /// All bytes received so far: at most a little more than ``ClientHelloPeek/limit``.
    private var buffered = ByteBuffer()
    private var timer: Scheduled<Void>?

    /// Creates a handler.
    ///
    /// - Parameter ordinary: The TLS handler of all other connections, which is behind this handler.
    package init(challenges: ALPNChallenges, ordinary: any RemovableChannelHandler) {
        self.challenges = challenges
        self.ordinary = ordinary
    }

    package func handlerRemoved(context: ChannelHandlerContext) { stop() }

    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch phase {
        case .inspecting: break
        case .forwarded:
            context.fireChannelRead(data)
            return
        case .rejected: return
        }
        if buffered.readableBytes == 0 {
            buffered = unwrapInboundIn(data)
        } else {
            buffered.writeImmutableBuffer(unwrapInboundIn(data))
        }
        switch buffered.withUnsafeReadableBytes({ peek.inspect($0) }) {
        case .needsMore: startTimer(context)
        case .passOn: forward(context)
        case .challenge(let serverName): answer(serverName, context)
        }
    }

    // MARK: Events before the verdict

    package func channelInactive(context: ChannelHandlerContext) {
        forward(context) { context.fireChannelInactive() }
    }

    package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event as? ChannelEvent == .inputClosed {
            forward(context) { context.fireUserInboundEventTriggered(event) }
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    private func startTimer(_ context: ChannelHandlerContext) {
        guard timer == nil else { return }
        timer = context.eventLoop.assumeIsolated().scheduleTask(in: Self.helloTimeout) {
            self.forward(context) { context.fireChannelReadComplete() }
        }
    }

    private func stop() {
        timer?.cancel()
        timer = nil
        ordinary = nil
        buffered = ByteBuffer()
        if phase == .inspecting { phase = .forwarded }
    }

    // MARK: The verdict

    /// Forwards the buffered bytes, calls `completion` to forward the event that came after them, and removes this
    /// handler. The order matters: the context of a removed handler forwards nothing.
    private func forward(_ context: ChannelHandlerContext, _ completion: () -> Void = {}) {
        let isInspecting = phase == .inspecting
        let bytes = buffered
        stop()
        if isInspecting, bytes.readableBytes > 0 { context.fireChannelRead(wrapInboundOut(bytes)) }
        completion()
        if isInspecting { context.pipeline.syncOperations.removeHandler(context: context, promise: nil) }
    }

    private func answer(_ serverName: String?, _ context: ChannelHandlerContext) {
        guard let tls = serverName.flatMap({ challenges.context(for: $0, now: .now()) }), let ordinary else {
            reject(context)
            return
        }
        let pipeline = context.pipeline.syncOperations
        do {
            try pipeline.addHandlers(
                [NIOSSLServerHandler(context: tls), ChallengeHandshake(challenges: challenges)],
                position: .after(self)
            )
        } catch {
            // The channel is being torn down.
            context.close(promise: nil)
            return
        }
        pipeline.removeHandler(ordinary, promise: nil)
        forward(context)
    }

    private func reject(_ context: ChannelHandlerContext) {
        challenges.count(.unknownName)
        phase = .rejected
        stop()
        let promise = context.eventLoop.makePromise(of: Void.self)
        promise.futureResult.assumeIsolated().whenComplete { _ in context.close(promise: nil) }
        context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: Self.unrecognizedName)), promise: promise)
    }
}

@available(*, unavailable)
extension ClientHelloHandler: Sendable {}
