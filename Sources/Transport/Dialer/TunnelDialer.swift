package import DTLS
package import NIOCore
import Tunnel

/// The agent's end: one attempt is one connected socket and one session.
package enum TunnelDialer {
    /// Dials on `loop`, which must be the current one, and returns at once.
    ///
    /// ``SessionHandler/sessionEstablished(_:)`` follows, or ``SessionHandler/sessionClosed(_:reason:)`` without it:
    /// a handshake that fails or takes too long, nobody listening, a socket that cannot be made. Closing the session
    /// before that gives the attempt up.
    ///
    /// - Parameters:
    ///   - address: a resolved address; names are looked up by the caller, off the loops.
    ///   - serverName: goes into SNI and must be in the certificate.
    ///   - counters: shared by successive attempts on one loop.
    /// - Throws: when there is nothing to dial with: no socket, or a name that no certificate can carry.
    @discardableResult
    package static func dial(
        to address: SocketAddress,
        serverName: String?,
        context: DTLSContext,
        configuration: TunnelDialerConfiguration,
        on loop: any EventLoop,
        counters: TransportCounters = TransportCounters(),
        handler: any SessionHandler
    ) throws -> TunnelSession {
        loop.preconditionInEventLoop()
        let now = NIODeadline.now()
        let dtls = try DTLSSession(
            client: context,
            serverName: serverName,
            mtu: configuration.session.datagramSize,
            now: now
        )
        let driver = DialerSocket(
            context: LoopContext.of(loop),
            socket: try UDPSocket.connected(to: address, buffers: configuration.buffers),
            counters: counters
        )
        let session = TunnelSession(
            dtls: dtls,
            role: .client,
            driver: driver,
            path: DatagramSender.Path(address: nil),
            remoteAddress: address,
            configuration: configuration.session,
            handler: handler,
            now: now
        )
        driver.begin(session)
        return session
    }
}

/// Limits and times of a dialled session.
package struct TunnelDialerConfiguration: Sendable {
    package var session = TunnelSessionConfiguration()
    package var buffers = UDPSocket.BufferSizes()

    package init() {}
}
