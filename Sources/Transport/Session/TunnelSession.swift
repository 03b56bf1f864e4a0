import DTLS
package import NIOCore
import Synchronization
package import Tunnel

/// One DTLS session and the tunnel inside it, on one event loop.
///
/// Think of it as the driver of two sans-IO machines, `DTLSSession` and `TunnelConnection`: datagrams that arrive
/// become stream events, bytes that are written become bursts of datagrams. The socket's ``SocketDriver`` passes
/// datagrams to `receive`; the loop's ``LoopContext`` calls `drive` at the end of each turn in which the session was
/// touched, and `handleTimeout` at its deadline. The owner is its ``SessionHandler``.
///
/// Phases: `opening` (handshake and exchange of PARAMETERS), `open`, `closing` (CONNECTION_CLOSE is repeated, RFC 9000
/// §10.2), `closed`. No method throws; every failure arrives as ``SessionCloseReason``.
///
/// Confined to `loop`. ``openStream(handler:on:)``, ``close(_:reason:)`` and the members below "From any loop" may be
/// used from anywhere, which makes the class `Sendable`.
package final class TunnelSession: DeadlineNode, @unchecked Sendable {
    package let loop: any EventLoop
    /// A number that is unique in this process.
    package let id: UInt64
    package let remoteAddress: SocketAddress
    package let role: TunnelRole
    /// The control stream (stream 0); its user loop is `loop`. Ready once the session is established.
    package private(set) var control: TunnelStream!
    /// The owner. Released when it has been notified of the close.
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

    /// The phase of the session's life.
    enum Phase {
        /// The DTLS handshake is under way, or the peer's PARAMETERS are awaited.
        case opening
        case open
        /// The owner has been notified of the close. CONNECTION_CLOSE may still have to be repeated.
        case closing
        case closed
    }

    var phase = Phase.opening
    /// The time at which a stream beside the control stream was last open.
    var busyAt = NIODeadline.uptimeNanoseconds(0)
    /// Whether the loop's context has the session in its list to drive.
    var isDirty = false
    /// Whether the socket's driver has the session in its list of those that wait for room.
    var isWaitingForRoom = false
    var isAuthenticated = false
    /// Whether the session was established, so that the owner was notified of that.
    var wasOpen = false
    /// The close that was requested and not yet performed.
    var pendingClose: (code: ApplicationErrorCode, reason: String)?
    /// The time at which a session that is not open closes.
    var openingDeadline: NIODeadline?
    /// The time at which a session that is not authenticated closes.
    var authenticationDeadline: NIODeadline?
    var peerGoneIndication: PeerGoneIndication?
    /// The reason to report to the owner when the tunnel reports that this side closed it.
    var closeReason: SessionCloseReason?
    /// The number of datagrams from the peer's address. `recordsIn` counts the records in them that DTLS authenticated.
    var datagramsIn: UInt64 = 0
    var recordsIn: UInt64 = 0

    /// An unauthenticated indication that the peer has lost this session. If nothing is received from the peer until
    /// `deadline`, the owner of an open session is told, and an attempt that was refused repeatedly ends.
    struct PeerGoneIndication {
        /// The time until which the session waits for the peer.
        let deadline: NIODeadline
        /// The value of the counter when the indication came: authenticated records, or datagrams while there is no
        /// tunnel and anything that arrives proves that the peer is alive.
        let received: UInt64
        /// Whether `received` counts authenticated records.
        let countsRecords: Bool
        /// Whether another indication has come. A first flight that is lost and one forged ICMP message look alike; a
        /// port without a listener refuses each flight.
        var isRepeated = false
    }

    private static let lastID = Atomic<UInt64>(0)
    /// The time after which ``isResponsive`` is false, in nanoseconds of `NIODeadline`; published for other threads.
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

    /// Opens a stream that is used on `userLoop`, and returns at once. Call it on the session's loop or on `userLoop`.
    /// If the stream cannot be opened, its handler is called with ``StreamFailure/Reason/refused`` after this call has
    /// returned.
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

    /// Closes the session with CONNECTION_CLOSE. Its streams fail, then the owner is notified.
    package func close(_ code: ApplicationErrorCode, reason: String) {
        if loop.inEventLoop {
            beginClose(code, reason: reason)
        } else {
            loop.execute { self.beginClose(code, reason: reason) }
        }
    }

    /// Marks the peer as authenticated: the session leaves the half-open limits, gets its full windows, and replaces an
    /// older session of the same address and port.
    package func authenticated() {
        if loop.inEventLoop {
            markAuthenticated()
        } else {
            loop.execute { self.markAuthenticated() }
        }
    }

    /// Sets the time without traffic after which a PING is sent.
    package func setKeepAlive(_ interval: TimeAmount) {
        onLoop { session in
            session.tunnel?.keepAliveInterval = interval
            session.context.touch(session)
        }
    }

    /// Sends a PING; see ``isResponsive``.
    package func ping() {
        onLoop { session in
            session.tunnel?.ping(now: .now())
            session.context.touch(session)
        }
    }

    /// Whether the peer acknowledges. False while something is in flight and no acknowledgement has come for max(3 PTO,
    /// 1 s): give the session no new requests.
    package var isResponsive: Bool {
        NIODeadline.now().uptimeNanoseconds < silentAfter.load(ordering: .relaxed)
    }

    func onLoop(_ body: @escaping @Sendable (TunnelSession) -> Void) {
        if loop.inEventLoop {
            body(self)
        } else {
            loop.execute { body(self) }
        }
    }

    // MARK: On the session's loop

    /// The statistics of the tunnel. On the session's loop only.
    package var statistics: TunnelStatistics {
        loop.preconditionInEventLoop()
        return tunnel?.statistics ?? TunnelStatistics()
    }

    /// Whether streams beside the control stream are open. On the session's loop only.
    package var hasOpenStreams: Bool { streams.count > 1 }

    /// The time at which the peer last sent an authenticated packet, or `nil` before the handshake is complete.
    package var lastReceived: NIODeadline? { tunnel?.lastReceived }

    /// The sender of the session's datagrams. Other sessions may share it and the channel.
    package var sender: DatagramSender { driver.sender }
    /// The NIO channel of the session's socket, or `nil` while it is being reopened.
    package var channel: (any Channel)? { driver.channel }

    /// The agreed application protocol (ALPN), or `nil` before the handshake is complete.
    package var applicationProtocol: String? { dtls.alpn }

    /// The URI among the names of the peer's certificate, or `nil` if it has presented none or names none or several.
    package var peerURI: String? { dtls.peerURI }

    /// Publishes the time after which the session counts as unresponsive.
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
    /// The UDP payload of a full datagram in bytes.
    package var datagramSize = 1200
    /// The acceptable application protocols (ALPN). Any other closes the session.
    package var applicationProtocols = [TunnelProtocol.alpn]
    /// The time from the first datagram to the exchange of PARAMETERS. DTLS gives up after 10 s by itself.
    package var handshakeTimeout: TimeAmount = .seconds(10)
    /// The time from the end of the DTLS handshake to ``TunnelSession/authenticated()``, or `nil` if no authentication
    /// is needed.
    package var authenticationTimeout: TimeAmount?

    package init() {}
}
