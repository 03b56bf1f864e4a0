import DTLS
package import NIOCore
import Synchronization
package import Tunnel

/// One DTLS session and the tunnel in it, on one loop: what arrives becomes stream events, what is written becomes
/// bursts of datagrams.
///
/// It belongs to `loop`. ``openStream(handler:on:)``, ``close(code:reason:)`` and the properties that say so may be
/// used from anywhere; everything else is touched on that loop alone, which is what makes it `Sendable`.
package final class TunnelSession: DeadlineNode, @unchecked Sendable {
    package let loop: any EventLoop
    /// Unique in this process.
    package let id: UInt64
    package let remoteAddress: SocketAddress
    package let role: TunnelRole
    /// Stream 0; its user loop is `loop`. Ready once the session is established.
    package private(set) var control: TunnelStream!
    package var handler: (any SessionHandler)?

    let context: LoopContext
    let dtls: DTLSSession
    var tunnel: TunnelConnection?
    let driver: SocketDriver
    var path: DatagramSender.Path
    let configuration: TunnelSessionConfiguration
    let counters: TransportCounters
    var streams: [UInt64: TunnelStream] = [:]
    var heldStreams: [TunnelStream] = []

    /// Where it stands in its life.
    enum Phase {
        /// DTLS handshake, or waiting for the peer's PARAMETERS.
        case opening
        case open
        /// The owner has been told that it is closed; CONNECTION_CLOSE may still have to be repeated.
        case closing
        case closed
    }

    var phase = Phase.opening
    /// When a stream beside the control stream was last open.
    var busyAt = NIODeadline.uptimeNanoseconds(0)
    /// Listed by the loop's context to be driven.
    var isDirty = false
    /// Listed by the socket's driver until it has room.
    var isWaitingForRoom = false
    var isAuthenticated = false
    /// The owner was told that it is established.
    var wasOpen = false
    /// Close was asked for before there was a tunnel to close.
    var pendingClose: (code: ApplicationErrorCode, reason: String)?
    /// When a session that is not open ends.
    var openingDeadline: NIODeadline?
    /// When a session that is not authenticated ends.
    var authenticationDeadline: NIODeadline?
    var peerGoneIndication: PeerGoneIndication?
    /// What the owner will be told when the tunnel says that our side closed it.
    var closeReason: SessionCloseReason?
    /// Datagrams from the peer's address, and records in them that DTLS vouched for.
    var datagramsIn: UInt64 = 0
    var recordsIn: UInt64 = 0

    /// A rumour that the peer is gone.
    struct PeerGoneIndication {
        /// Without a sign of life until then it is true.
        let deadline: NIODeadline
        /// What had been received when it came: records that DTLS vouched for, or datagrams while there was no tunnel
        /// and anything that comes is a sign of life.
        let received: UInt64
        let countsRecords: Bool
    }

    private static let lastID = Atomic<UInt64>(0)
    private let silentAfter = Atomic<UInt64>(UInt64.max)

    init(
        dtls: DTLSSession,
        role: TunnelRole,
        driver: SocketDriver,
        path: DatagramSender.Path,
        remoteAddress: SocketAddress,
        configuration: TunnelSessionConfiguration,
        handler: (any SessionHandler)?,
        now: NIODeadline
    ) {
        context = driver.context
        loop = driver.context.loop
        id = Self.lastID.wrappingAdd(1, ordering: .relaxed).newValue
        self.dtls = dtls
        self.role = role
        self.driver = driver
        self.path = path
        self.remoteAddress = remoteAddress
        self.configuration = configuration
        counters = driver.counters
        self.handler = handler
        openingDeadline = now + configuration.handshakeTimeout
        super.init()
        control = TunnelStream(session: self, userContext: context, state: .open(.control), handler: nil)
        streams[StreamID.control.rawValue] = control
    }

    // MARK: From any loop

    /// Opens a stream that is used on `userLoop`, at once there. If it cannot be opened, its handler hears
    /// ``StreamFailure/Reason/refused``, after this call has returned.
    package func openStream(handler: any StreamHandler, on userLoop: any EventLoop) -> TunnelStream {
        let stream = TunnelStream(
            session: self,
            userContext: userLoop === loop ? context : LoopContext.of(userLoop),
            state: .unopened,
            handler: handler
        )
        if loop.inEventLoop {
            open(stream)
        } else if userLoop.inEventLoop {
            stream.userContext.post(.open(stream), to: context)
        } else {
            loop.execute { self.open(stream) }
        }
        return stream
    }

    /// Ends the session with CONNECTION_CLOSE. Its streams fail, then the handler is told.
    package func close(_ code: ApplicationErrorCode, reason: String) {
        if loop.inEventLoop {
            beginClose(code, reason: reason)
        } else {
            loop.execute { self.beginClose(code, reason: reason) }
        }
    }

    /// The peer has proved itself: the session leaves the half-open limits, gets its full windows, and takes the place
    /// of an older one of the same address.
    package func authenticated() {
        if loop.inEventLoop {
            markAuthenticated()
        } else {
            loop.execute { self.markAuthenticated() }
        }
    }

    /// A PING leaves after so long a silence.
    package func setKeepAlive(_ interval: TimeAmount) {
        onLoop { session in
            session.tunnel?.keepAliveInterval = interval
            session.context.touch(session)
        }
    }

    /// Asks the peer for a sign of life; see ``isResponsive``.
    package func ping() {
        onLoop { session in
            session.tunnel?.ping(now: .now())
            session.context.touch(session)
        }
    }

    /// False while something is in flight and no acknowledgement came for max(3 PTO, 1 s): give it no new requests.
    package var isResponsive: Bool {
        NIODeadline.now().uptimeNanoseconds < silentAfter.load(ordering: .relaxed)
    }

    private func onLoop(_ body: @escaping @Sendable (TunnelSession) -> Void) {
        if loop.inEventLoop {
            body(self)
        } else {
            loop.execute { body(self) }
        }
    }

    // MARK: On the session's loop

    package var statistics: TunnelStatistics {
        loop.preconditionInEventLoop()
        return tunnel?.statistics ?? TunnelStatistics()
    }

    /// When the peer last sent something authentic.
    package var lastReceived: NIODeadline? { tunnel?.lastReceived }

    /// What its datagrams terminate by, and NIO's channel that they arrive on. Other sessions may share both.
    package var sender: DatagramSender { driver.sender }
    package var channel: (any Channel)? { driver.channel }

    /// The application protocol that was agreed.
    package var applicationProtocol: String? { dtls.alpn }

    func updateSilence() {
        let deadline = phase == .open ? tunnel?.silentAfter : nil
        silentAfter.store(deadline?.uptimeNanoseconds ?? UInt64.max, ordering: .relaxed)
    }

    override package func deadlinePassed(now: NIODeadline) {
        handleTimeout(now: now)
    }
}

/// Limits and times of a session, for both ends.
package struct TunnelSessionConfiguration: Sendable {
    package var tunnel = TunnelConfiguration()
    /// UDP payload of a full datagram.
    package var datagramSize = 1200
    /// What ALPN must have agreed upon; anything else ends the session.
    package var applicationProtocols = [TunnelProtocol.alpn]
    /// From the first datagram to the exchange of PARAMETERS. DTLS gives up after 10 s by itself.
    package var handshakeTimeout: TimeAmount = .seconds(10)
    /// From the end of the DTLS handshake to ``TunnelSession/authenticated()``. Nil: needs none.
    package var authenticationTimeout: TimeAmount?

    package init() {}
}
