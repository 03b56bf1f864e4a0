import DTLS
import NIOCore
import Tunnel

/// The connected socket of one client session. It receives from one peer only, and learns of ECONNREFUSED.
final class DialerSocket: SocketDriver {
    /// The session, or `nil` once it has terminated.
    private var session: TunnelSession?

    func begin(_ session: TunnelSession) {
        self.session = session
        counters.handshakesStarted.add(1)
        context.touch(session)
        open().assumeIsolated().whenFailure { error in
            let reason =
                error as? TransportError
                ?? TransportError(code: .systemCall, operation: "the socket cannot be registered")
            session.end(.socket(reason), now: .now())
        }
    }

    override func handle(
        _ datagram: UnsafeRawBufferPointer,
        from address: UDPAddress,
        to local: UDPAddress?,
        socketAddress: SocketAddress
    ) {
        guard let session else { return }
        // An alert in the clear only indicates that the peer may have lost an open session. It answers no handshake.
        if DTLSUnknownSessionAlert.matches(datagram) {
            if session.tunnel != nil { session.peerMayBeGone(now: turnNow) }
            return
        }
        session.receive(datagram, to: local, now: turnNow)
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
