import NIOCore
import NIOTLS

/// The handler behind the TLS handler of a challenge. When the handshake is complete, the validator has seen the
/// certificate and the connection is closed (RFC 8737 §4). Application data is discarded.
///
/// The HTTP connection behind it does not learn that the handshake is complete, so its handshake timeout covers this
/// connection too.
final class ChallengeHandshake: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let challenges: ALPNChallenges
    private var isFinished = false

    init(challenges: ALPNChallenges) { self.challenges = challenges }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {}

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case .handshakeCompleted? = event as? TLSUserEvent else {
            context.fireUserInboundEventTriggered(event)
            return
        }
        finish(.answered)
        context.close(promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if isFinished {
            // An error while the connection is being closed is irrelevant.
            context.close(promise: nil)
            return
        }
        finish(.failed)
        context.fireErrorCaught(error)
    }

    private func finish(_ result: ALPNChallenges.Result) {
        guard !isFinished else { return }
        isFinished = true
        challenges.count(result)
    }
}

@available(*, unavailable)
extension ChallengeHandshake: Sendable {}
