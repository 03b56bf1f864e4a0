import DTLS
import NIOCore
import Tunnel

/// One socket of a listener: answers ClientHellos, and passes every other datagram to its session.
///
/// Confined to its loop. ``TunnelListener`` owns one for each loop and calls ``shutDown()``; the base class calls
/// `handle` for each datagram, and each session reports its life through the overridden methods of ``SocketDriver``:
///
/// 1. A ClientHello without a valid cookie is answered with a cookie and leaves no state.
/// 2. A ClientHello with one creates a *pending* session at its address, if ``HalfOpenSessions`` has a place for it.
/// 3. `sessionOpened`: handshake and PARAMETERS are exchanged, and the session gets its handler.
/// 4. `sessionAuthenticated`: the session becomes the *established* one of its address, within the limits of
///    authenticated sessions, and ends an earlier one there.
/// 5. `sessionClosed`, then `sessionTerminated`, which forgets it.
///
/// Application records of the previous datagram's peer, and of a peer with an established session alone, take a fast
/// path; ``DTLSDemultiplexer`` decides about all other datagrams.
final class ListenerSocket: SocketDriver {
    /// The sessions at one address and port. There are at most two: one whose peer has authenticated itself, and one
    /// whose peer has not yet.
    private struct Peer {
        var established: TunnelSession?
        var pending: TunnelSession?
        /// The place of `pending` among the half-open sessions.
        var ticket: HalfOpenSessions.Ticket?
    }

    private let settings: TunnelListenerConfiguration
    private let halfOpen: HalfOpenSessions
    private let sessionLimits: SessionLimits
    private let currentContext: @Sendable () -> DTLSContext
    private let accept: @Sendable (TunnelSession) -> any SessionHandler
    private let dtls: DTLSListener
    private var dtlsContext: DTLSContext
    private var contextCheckedAt: NIODeadline
    private var peers: [UDPAddress: Peer] = [:]
    private var alerts = AlertLimiter()
    /// The session of the last datagram. A coalesced read is a run of datagrams of one peer, so it is often the next
    /// one's too.
    private var recent: (address: UDPAddress, session: TunnelSession)?

    init(
        context: LoopContext,
        socket: UDPSocket,
        settings: TunnelListenerConfiguration,
        halfOpen: HalfOpenSessions,
        sessionLimits: SessionLimits,
        secret: DTLSCookieSecret,
        dtlsContext: @escaping @Sendable () -> DTLSContext,
        accept: @escaping @Sendable (TunnelSession) -> any SessionHandler
    ) {
        self.settings = settings
        self.halfOpen = halfOpen
        self.sessionLimits = sessionLimits
        currentContext = dtlsContext
        self.accept = accept
        self.dtlsContext = dtlsContext()
        contextCheckedAt = .now()
        dtls = DTLSListener(context: self.dtlsContext, secret: secret, mtu: settings.session.datagramSize)
        super.init(context: context, socket: socket, counters: TransportCounters())
    }

    // MARK: In

    override func handle(
        _ datagram: UnsafeRawBufferPointer,
        from address: UDPAddress,
        to local: UDPAddress?,
        socketAddress: SocketAddress
    ) {
        let kind = DTLSDatagramKind.classify(datagram)
        let isData = kind == .protected(.applicationData)
        if isData, let recent, recent.address == address {
            recent.session.receive(datagram, to: local, now: turnNow)
            return
        }
        let peer = peers[address]
        if isData, let peer, peer.pending == nil, let session = peer.established {
            self.recent = (address, session)
            session.receive(datagram, to: local, now: turnNow)
            return
        }
        let sessions = DTLSDemultiplexer.Sessions(
            established: peer?.established?.dtls.clientRandom,
            pending: peer?.pending?.dtls.clientRandom,
            isPendingSecured: peer?.pending?.tunnel != nil
        )
        switch DTLSDemultiplexer.destination(of: kind, sessions: sessions) {
        case .established:
            peer?.established?.receive(datagram, to: local, now: turnNow)
        case .pending:
            peer?.pending?.receive(datagram, to: local, now: turnNow)
        case .pendingThenEstablished:
            if peer?.pending?.receive(datagram, to: local, now: turnNow) != true {
                peer?.established?.receive(datagram, to: local, now: turnNow)
            }
        case .listener:
            handleClientHello(datagram, from: address, to: local, socketAddress: socketAddress)
        case .unknownSession:
            answerUnknownSession(address, local)
        case .drop:
            if kind == .invalid {
                counters.droppedInvalid.add(1)
            } else {
                counters.droppedUnknown.add(1)
            }
        }
    }

    /// Answers a ClientHello of a handshake that is not known here.
    private func handleClientHello(
        _ hello: UnsafeRawBufferPointer,
        from address: UDPAddress,
        to local: UDPAddress?,
        socketAddress: SocketAddress
    ) {
        refreshContext()
        var ticket: HalfOpenSessions.Ticket?
        let answer = address.withCookieBytes { bytes in
            dtls.handle(datagram: hello, peer: bytes, now: turnNow) {
                // The owner of the address begins again, and needs one place only.
                peers[address]?.pending?.end(.replaced, now: turnNow)
                ticket = admit(address)
                return ticket != nil
            }
        }
        switch answer {
        case .reply:
            while let count = dtls.pollTransmit(into: context.arena) {
                counters.cookiesSent.add(1)
                sendStateless(UnsafeRawBufferPointer(rebasing: context.arena[..<count]), to: address, from: local)
            }
        case .session(let session):
            guard let ticket else { preconditionFailure("a session was created without a place") }
            begin(session, at: address, local, socketAddress: socketAddress, ticket)
        case .drop(.notAdmitted): break
        case .drop: counters.droppedHello.add(1)
        }
    }

    private func admit(_ address: UDPAddress) -> HalfOpenSessions.Ticket? {
        switch halfOpen.admit(address, now: turnNow) {
        case .admitted(let ticket, let evicting):
            if evicting { counters.halfOpenEvicted.add(1) }
            return ticket
        case .totalLimitReached: counters.droppedHalfOpenTotal.add(1)
        case .addressLimitReached: counters.droppedHalfOpenAddress.add(1)
        }
        return nil
    }

    private func begin(
        _ dtls: DTLSSession,
        at address: UDPAddress,
        _ local: UDPAddress?,
        socketAddress: SocketAddress,
        _ ticket: HalfOpenSessions.Ticket
    ) {
        let session = TunnelSession(
            dtls: dtls,
            role: .server,
            driver: self,
            path: DatagramSender.Path(address: address, local: local),
            remoteAddress: socketAddress.unmapped,
            configuration: settings.session,
            handler: nil,
            now: turnNow
        )
        counters.handshakesStarted.add(1)
        counters.halfOpen.add(1)
        peers[address, default: Peer()].pending = session
        peers[address]?.ticket = ticket
        halfOpen.prepare(ticket) { [weak session] in session?.evict() }
        recent = nil
        context.touch(session)
    }

    /// Answers a record of a session that is not known here, as far as its unauthenticated header can be trusted.
    private func answerUnknownSession(_ address: UDPAddress, _ local: UDPAddress?) {
        counters.droppedUnknown.add(1)
        guard alerts.allows(address, now: turnNow) else { return }
        counters.alertsSent.add(1)
        let count = DTLSUnknownSessionAlert.write(into: context.arena)
        sendStateless(UnsafeRawBufferPointer(rebasing: context.arena[..<count]), to: address, from: local)
    }

    /// Adopts a renewed certificate. Certificates change while the process runs; one check per second is enough.
    private func refreshContext() {
        guard turnNow - contextCheckedAt >= .seconds(1) else { return }
        contextCheckedAt = turnNow
        let current = currentContext()
        guard current !== dtlsContext else { return }
        dtlsContext = current
        dtls.use(current)
    }

    // MARK: Sessions

    override func sessionOpened(_ session: TunnelSession) {
        counters.sessions.add(1)
        session.handler = accept(session)
    }

    override func sessionAuthenticated(_ session: TunnelSession) {
        guard let address = session.path.address, peers[address]?.pending === session else { return }
        let previous = peers[address]?.established
        // A session that is replaced passes its slot on to its successor.
        if previous == nil, sessionLimits.acquire(address) != .admitted {
            counters.sessionsRefused.add(1)
            session.beginClose(.busy, reason: "too many sessions of this address, or in all")
            return
        }
        if let ticket = peers[address]?.ticket { halfOpen.release(ticket) }
        counters.halfOpen.add(-1)
        counters.sessionsAuthenticated.add(1)
        peers[address] = Peer(established: session, pending: nil)
        previous?.end(.replaced, now: .now())
    }

    override func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason) {
        if session.wasOpen {
            counters.sessions.add(-1)
            counters.sessionsClosed.add(1)
        } else {
            counters.handshakesFailed.add(1)
            settings.handshakeFailed?(session.remoteAddress, reason)
        }
    }

    override func sessionTerminated(_ session: TunnelSession) {
        if recent?.session === session { recent = nil }
        guard let address = session.path.address, var peer = peers[address] else { return }
        if peer.pending === session {
            peer.pending = nil
            if let ticket = peer.ticket { halfOpen.release(ticket) }
            peer.ticket = nil
            counters.halfOpen.add(-1)
        } else if peer.established === session {
            peer.established = nil
            sessionLimits.release(address)
        }
        peers[address] = peer.established == nil && peer.pending == nil ? nil : peer
    }

    /// Closes every session with CONNECTION_CLOSE, and the socket.
    func shutDown() {
        context.beginTurn()
        let now = NIODeadline.now()
        let sessions = peers.values.flatMap { [$0.established, $0.pending].compactMap { $0 } }
        for session in sessions {
            session.closeImmediately(.listenerClosed, code: .noError, text: "the gateway stops", now: now)
        }
        close()
        context.endTurn()
    }
}
