package import DTLS
package import Tunnel

/// What a session tells its owner. All calls come on the session's loop.
package protocol SessionHandler: AnyObject {
    /// DTLS is done, the protocol agreed, PARAMETERS exchanged. ``TunnelSession/control`` is ready: set its handler.
    func sessionEstablished(_ session: TunnelSession)
    /// The peer opened a stream: set its handler before returning.
    func session(_ session: TunnelSession, opened stream: TunnelStream)
    /// Exactly once, after every stream has failed. Also for a dialled session that was never established.
    func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason)
}

/// Why a session is over.
package enum SessionCloseReason: Error, Sendable {
    /// Our side called ``TunnelSession/close(_:reason:)``.
    case local(code: ApplicationErrorCode, reason: String)
    /// The peer sent CONNECTION_CLOSE.
    case peer(code: ApplicationErrorCode, reason: String)
    /// The peer broke the tunnel's protocol.
    case violation(TunnelError)
    /// Nothing was received for the idle timeout.
    case idleTimeout
    /// A peerGoneIndication (ECONNREFUSED, an alert in the clear) and then no sign of life: the peer has forgotten this session.
    case lost
    /// The peer ended DTLS: close_notify (nil), or a fatal alert or a failure of the session (why).
    case dtls(DTLSError?)
    /// The handshake failed: a certificate that does not verify, no common parameters, an alert.
    case handshakeFailed(DTLSError?)
    /// The handshake was not done in time.
    case handshakeTimeout
    /// Nobody listens at the peer's port.
    case refused
    /// DTLS is done, but another protocol, or none, was agreed (ALPN).
    case wrongProtocol(String?)
    /// The peer did not authenticate in time.
    case notAuthenticated
    /// Another session of the same address took this one's place.
    case replaced
    /// Our listener was closed.
    case listenerClosed
    /// Our socket could not be made.
    case socket(TransportError)
}
