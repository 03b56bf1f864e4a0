import NIOCore
import NIOTLS

/// Stands behind the TLS handler of a challenge: the certificate was shown when the handshake is complete, and the
/// connection ends (RFC 8737 §4). Nothing that a validator sends later is read.
///
/// The HTTP connection behind it never learns that the handshake is over, so its deadline for handshakes is this one's
/// too.
final class ChallengeHandshake: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let challenges: ALPNChallenges
    private var isOver = false

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
        if isOver {
            // How the peer left is of no interest.
            context.close(promise: nil)
            return
        }
        finish(.failed)
        context.fireErrorCaught(error)
    }

    private func finish(_ result: ALPNChallenges.Result) {
        guard !isOver else { return }
        isOver = true
        challenges.count(result)
    }
}

@available(*, unavailable)
extension ChallengeHandshake: Sendable {}
