package import DTLS
package import NIOCore
import Tunnel

/// The agent's end of tunnels: each attempt is one connected socket and one session.
package enum TunnelDialer {
    /// Dials on `loop`, which must be the current loop, and returns at once.
    ///
    /// ``SessionHandler/sessionEstablished(_:)`` follows, or ``SessionHandler/sessionClosed(_:reason:)`` alone if the
    /// attempt fails: the handshake fails or takes too long, no process listens at the address, or the socket cannot be
    /// created. Closing the session before either cancels the attempt.
    ///
    /// - Parameters:
    ///   - address: A resolved address. The caller resolves names, and not on an event loop.
    ///   - serverName: The name for SNI, which the peer's certificate must contain. `nil` is possible with a pin only.
    ///   - context: The trust and the application protocols.
    ///   - configuration: Limits, times and buffer sizes.
    ///   - loop: The loop of the session.
    ///   - counters: The counters, shared by successive attempts on one loop.
    ///   - handler: The owner of the session.
    /// - Throws: `TransportError` if there is no socket, `DTLSError` if `serverName` cannot be a name in a certificate.
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

/// Limits and times of a client session.
package struct TunnelDialerConfiguration: Sendable {
    package var session = TunnelSessionConfiguration()
    package var buffers = UDPSocket.BufferSizes()

    package init() {}
}
