import DTLS
import NIOCore
import Tunnel

/// A dialled session's own connected socket: it hears from one peer only, and of refusals.
final class DialerSocket: SocketDriver {
    /// Nil once the session has left.
    private var session: TunnelSession?

    func begin(_ session: TunnelSession) {
        self.session = session
        counters.handshakesStarted.add(1)
        context.touch(session)
        open().assumeIsolated().whenFailure { error in
            let reason = error as? TransportError ?? TransportError(code: .systemCall, operation: "register the socket")
            session.end(.socket(reason), now: .now())
        }
    }

    override func handle(
        _ datagram: UnsafeRawBufferPointer,
        from address: UDPAddress,
        socketAddress: SocketAddress
    ) {
        guard let session else { return }
        // An alert in the clear is a peerGoneIndication; to DTLS it would be nothing, or the end of a handshake.
        if DTLSUnknownSessionAlert.matches(datagram) {
            session.peerMayBeGone(now: turnNow)
            return
        }
        session.receive(datagram, now: turnNow)
    }

    override func connectionRefused() {
        session?.peerMayBeGone(now: .now())
    }

    override func sessionOpened(_ session: TunnelSession) {
        counters.sessions.add(1)
    }

    override func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason) {
        if session.wasOpen {
            counters.sessions.add(-1)
            counters.sessionsClosed.add(1)
        } else {
            counters.handshakesFailed.add(1)
        }
    }

    override func sessionTerminated(_ session: TunnelSession) {
        self.session = nil
        close()
    }
}
