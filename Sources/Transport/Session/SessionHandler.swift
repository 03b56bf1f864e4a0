package import DTLS
package import Tunnel

/// The owner of a session. All methods are called on the session's loop.
package protocol SessionHandler: AnyObject {
    /// The DTLS handshake is complete, the application protocol is agreed and PARAMETERS are exchanged.
    /// ``TunnelSession/control`` is ready: set its handler.
    func sessionEstablished(_ session: TunnelSession)
    /// The peer opened a stream. Set the stream's handler before returning.
    func session(_ session: TunnelSession, opened stream: TunnelStream)
    /// The peer may have lost the session: there was an unauthenticated indication of that, and no answer to a PING.
    /// The session stays open; a further indication is reported again.
    func sessionSuspected(_ session: TunnelSession)
    /// The session has closed. Called exactly once, after every stream has failed; also for a client session that was
    /// never established.
    func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason)
}

extension SessionHandler {
    package func sessionSuspected(_ session: TunnelSession) {}
}

/// The reason for which a session closed.
package enum SessionCloseReason: Error, Sendable {
    /// This side called ``TunnelSession/close(_:reason:)``.
    case local(code: ApplicationErrorCode, reason: String)
    /// The peer sent CONNECTION_CLOSE.
    case peer(code: ApplicationErrorCode, reason: String)
    /// The peer broke the tunnel's protocol.
    case violation(TunnelError)
    /// No packet was received for the idle timeout (RFC 9000 §10.1).
    case idleTimeout
    /// The peer ended DTLS: `nil` for close_notify, else the fatal alert or the failure of the session.
    case dtls(DTLSError?)
    /// The handshake failed: the certificate does not verify, there are no common parameters, or the peer sent an
    /// alert.
    case handshakeFailed(DTLSError?)
    /// The handshake did not complete in time.
    case handshakeTimeout
    /// No process listens at the peer's port.
    case refused
    /// The handshake completed with another application protocol (ALPN), or none.
    case wrongProtocol(String?)
    /// The peer did not authenticate itself in time.
    case notAuthenticated
    /// Another session of the same address and port replaced this one.
    case replaced
    /// The session was half-open, and another one needed its place.
    case evicted
    /// Our listener was closed.
    case listenerClosed
    /// Our socket could not be registered with its loop.
    case socket(TransportError)
}

extension SessionCloseReason: CustomStringConvertible {
    package var description: String {
        switch self {
        case .local(_, let text): text
        case .peer(let code, let text): "the peer closed the session: code \(code) \(text)"
        case .violation(let error): "protocol violation: \(error)"
        case .idleTimeout: "nothing was received for the idle timeout"
        case .dtls(nil), .handshakeFailed(nil): "the peer ended DTLS"
        case .dtls(let error?), .handshakeFailed(let error?): "DTLS: \(error)"
        case .handshakeTimeout: "the handshake was not completed in time"
        case .refused: "no process listens at the peer's port"
        case .wrongProtocol(let name): "the peer negotiated \(name ?? "no application protocol")"
        case .notAuthenticated: "the peer did not authenticate itself in time"
        case .evicted: "ended before it authenticated itself, for sessions of other networks"
        case .replaced: "replaced by a new session of the same address"
        case .listenerClosed: "the listener was closed"
        case .socket(let error): "\(error)"
        }
    }
}
