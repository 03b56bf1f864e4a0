package import NIOCore
import NIOSSL

/// Stands before the TLS handler of a public connection while a TLS-ALPN-01 challenge is pending. It holds the first
/// bytes back until it is clear whether a CA is asking, then passes them on as they came and leaves.
///
/// - An ordinary hello, anything that cannot be read, and whoever is not done after ``patience``: the TLS handler gets
///   the bytes and answers as it always does.
/// - `acme-tls/1` alone with a name that has a challenge: a TLS handler with the challenge's certificate takes the
///   other's place, and the connection ends with the handshake.
/// - `acme-tls/1` alone with any other name: a fatal alert, and the connection ends.
///
/// What stands before it may have taken a prefix off the stream: the first byte that it gets is the first one of TLS.
package final class ClientHelloHandler: ChannelInboundHandler, RemovableChannelHandler {
    package typealias InboundIn = ByteBuffer
    package typealias InboundOut = ByteBuffer
    package typealias OutboundOut = ByteBuffer

    /// From the first byte to the end of the hello. The deadline of the whole handshake is somebody else's.
    package static let patience = TimeAmount.seconds(5)

    /// Record with the fatal alert unrecognized_name (RFC 8446 §6.2, RFC 6066 §3).
    private static let unrecognizedName: [UInt8] = [21, 3, 3, 0, 2, 2, 112]

    private enum Phase {
        case looking
        case passedOn
        case refused
    }

    private let challenges: ALPNChallenges
    private var ordinary: (any RemovableChannelHandler)?
    private var phase = Phase.looking
    private var peek = ClientHelloPeek()
    /// Everything that arrived; a little more than the peek's limit at most.
    private var held = ByteBuffer()
    private var timer: Scheduled<Void>?

    /// - Parameter ordinary: the TLS handler of all other connections; it stands behind this handler.
    package init(challenges: ALPNChallenges, ordinary: any RemovableChannelHandler) {
        self.challenges = challenges
        self.ordinary = ordinary
    }

    package func handlerRemoved(context: ChannelHandlerContext) { stop() }

    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch phase {
        case .looking: break
        case .passedOn:
            context.fireChannelRead(data)
            return
        case .refused: return
        }
        if held.readableBytes == 0 {
            held = unwrapInboundIn(data)
        } else {
            held.writeImmutableBuffer(unwrapInboundIn(data))
        }
        switch held.withUnsafeReadableBytes({ peek.look(at: $0) }) {
        case .needsMore: startTimer(context)
        case .passOn: passOn(context)
        case .challenge(let serverName): answer(serverName, context)
        }
    }

    // MARK: The end before the verdict

    package func channelInactive(context: ChannelHandlerContext) {
        passOn(context) { context.fireChannelInactive() }
    }

    package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event as? ChannelEvent == .inputClosed {
            passOn(context) { context.fireUserInboundEventTriggered(event) }
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    private func startTimer(_ context: ChannelHandlerContext) {
        guard timer == nil else { return }
        timer = context.eventLoop.assumeIsolated().scheduleTask(in: Self.patience) {
            self.passOn(context) { context.fireChannelReadComplete() }
        }
    }

    private func stop() {
        timer?.cancel()
        timer = nil
        ordinary = nil
        held = ByteBuffer()
        if phase == .looking { phase = .passedOn }
    }

    // MARK: The verdict

    /// The bytes go on as they came, what came behind them follows, and this handler goes. Once it is gone its context
    /// leads nowhere.
    private func passOn(_ context: ChannelHandlerContext, _ following: () -> Void = {}) {
        let isLooking = phase == .looking
        let bytes = held
        stop()
        if isLooking, bytes.readableBytes > 0 { context.fireChannelRead(wrapInboundOut(bytes)) }
        following()
        if isLooking { context.pipeline.syncOperations.removeHandler(context: context, promise: nil) }
    }

    private func answer(_ serverName: String?, _ context: ChannelHandlerContext) {
        guard let tls = serverName.flatMap({ challenges.context(for: $0, now: .now()) }), let ordinary else {
            refuse(context)
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
        passOn(context)
    }

    private func refuse(_ context: ChannelHandlerContext) {
        challenges.count(.unknownName)
        phase = .refused
        stop()
        let promise = context.eventLoop.makePromise(of: Void.self)
        promise.futureResult.assumeIsolated().whenComplete { _ in context.close(promise: nil) }
        context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: Self.unrecognizedName)), promise: promise)
    }
}

@available(*, unavailable)
extension ClientHelloHandler: Sendable {}
