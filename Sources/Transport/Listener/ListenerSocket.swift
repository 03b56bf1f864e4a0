import DTLS
import NIOCore
import Tunnel

/// One socket of a listener: answers hellos, and finds the session of every other datagram.
final class ListenerSocket: SocketDriver {
    /// At most two sessions live at one address and port: one whose peer has proved itself, and one that is about to.
    private struct Peer {
        var established: TunnelSession?
        var pending: TunnelSession?
    }

    private let settings: TunnelListenerConfiguration
    private let limits: SessionLimits
    private let sessionLimits: SessionLimits
    private let currentContext: @Sendable () -> DTLSContext
    private let accept: @Sendable (TunnelSession) -> any SessionHandler
    private let dtls: DTLSListener
    private var dtlsContext: DTLSContext
    private var contextCheckedAt: NIODeadline
    private var peers: [UDPAddress: Peer] = [:]
    private var alerts = AlertLimiter()
    /// The peer of the last datagram: a coalesced read is a run of datagrams of one.
    private var recent: (address: UDPAddress, session: TunnelSession)?

    init(
        context: LoopContext,
        socket: UDPSocket,
        settings: TunnelListenerConfiguration,
        limits: SessionLimits,
        sessionLimits: SessionLimits,
        secret: DTLSCookieSecret,
        dtlsContext: @escaping @Sendable () -> DTLSContext,
        accept: @escaping @Sendable (TunnelSession) -> any SessionHandler
    ) {
        self.settings = settings
        self.limits = limits
        self.sessionLimits = sessionLimits
        self.currentContext = dtlsContext
        self.accept = accept
        self.dtlsContext = dtlsContext()
        self.contextCheckedAt = .now()
        self.dtls = DTLSListener(context: self.dtlsContext, secret: secret, mtu: settings.session.datagramSize)
        super.init(context: context, socket: socket, counters: TransportCounters())
    }

    // MARK: In

    override func handle(
        _ datagram: UnsafeRawBufferPointer,
        from address: UDPAddress,
        socketAddress: SocketAddress
    ) {
        let kind = DTLSDatagramKind.classify(datagram)
        let isData = kind == .protected(.applicationData)
        if isData, let recent = self.recent, recent.address == address {
            recent.session.receive(datagram, now: self.turnNow)
            return
        }
        let peer = self.peers[address]
        if isData, let peer, peer.pending == nil, let session = peer.established {
            self.recent = (address, session)
            session.receive(datagram, now: self.turnNow)
            return
        }
        let sessions = DTLSDemultiplexer.Sessions(
            established: peer?.established?.dtls.clientRandom,
            pending: peer?.pending?.dtls.clientRandom,
            isPendingSecured: peer?.pending?.tunnel != nil
        )
        switch DTLSDemultiplexer.destination(of: kind, sessions: sessions) {
        case .established:
            peer?.established?.receive(datagram, now: self.turnNow)
        case .pending:
            peer?.pending?.receive(datagram, now: self.turnNow)
        case .pendingThenEstablished:
            if peer?.pending?.receive(datagram, now: self.turnNow) != true {
                peer?.established?.receive(datagram, now: self.turnNow)
            }
        case .listener:
            self.greet(datagram, from: address, socketAddress: socketAddress)
        case .hint:
            self.answerUnknown(address)
        case .drop:
            if kind == .invalid {
                self.counters.droppedInvalid.add(1)
            } else {
                self.counters.droppedUnknown.add(1)
            }
        }
    }

    /// A ClientHello of a handshake that is not known here.
    private func greet(_ hello: UnsafeRawBufferPointer, from address: UDPAddress, socketAddress: SocketAddress) {
        let replaced = self.peers[address]?.pending
        if replaced == nil {
            // Before any cookie is made: a full house answers nobody.
            guard self.admitted(self.limits.wouldAdmit(address)) else { return }
        }
        self.refreshContext()
        let answer = address.withCookieBytes { self.dtls.handle(datagram: hello, peer: $0, now: self.turnNow) }
        switch answer {
        case .reply:
            while let count = self.dtls.pollTransmit(into: self.context.arena) {
                self.counters.cookiesSent.add(1)
                self.sendStateless(UnsafeRawBufferPointer(rebasing: self.context.arena[..<count]), to: address)
            }
        case .session(let session):
            replaced?.end(.replaced, now: self.turnNow)
            guard self.admitted(self.limits.enter(address)) else { return }
            self.begin(session, at: address, socketAddress: socketAddress)
        case .drop:
            self.counters.droppedHello.add(1)
        }
    }

    private func admitted(_ verdict: SessionLimits.Verdict) -> Bool {
        switch verdict {
        case .admitted: return true
        case .tooManyInAll: self.counters.droppedHalfOpenTotal.add(1)
        case .tooManyOfAddress: self.counters.droppedHalfOpenAddress.add(1)
        }
        return false
    }

    private func begin(_ dtls: DTLSSession, at address: UDPAddress, socketAddress: SocketAddress) {
        let session = TunnelSession(
            dtls: dtls,
            role: .server,
            driver: self,
            path: DatagramSender.Path(address: address),
            remoteAddress: socketAddress,
            configuration: self.settings.session,
            handler: nil,
            now: self.turnNow
        )
        self.counters.handshakesStarted.add(1)
        self.counters.halfOpen.add(1)
        self.peers[address, default: Peer()].pending = session
        self.recent = nil
        self.context.touch(session)
    }

    /// A record of a session that is not here any more, as far as its header can be believed.
    private func answerUnknown(_ address: UDPAddress) {
        self.counters.droppedUnknown.add(1)
        guard self.alerts.allows(address, now: self.turnNow) else { return }
        self.counters.alertsSent.add(1)
        let count = DTLSHint.write(into: self.context.arena)
        self.sendStateless(UnsafeRawBufferPointer(rebasing: self.context.arena[..<count]), to: address)
    }

    /// Certificates change while the process runs; one look a second is enough.
    private func refreshContext() {
        guard self.turnNow - self.contextCheckedAt >= .seconds(1) else { return }
        self.contextCheckedAt = self.turnNow
        let current = self.currentContext()
        guard current !== self.dtlsContext else { return }
        self.dtlsContext = current
        self.dtls.use(current)
    }

    // MARK: Sessions

    override func sessionOpened(_ session: TunnelSession) {
        self.counters.sessions.add(1)
        session.handler = self.accept(session)
    }

    override func sessionAuthenticated(_ session: TunnelSession) {
        guard let address = session.path.address, self.peers[address]?.pending === session else { return }
        let previous = self.peers[address]?.established
        // The one it replaces gives it its place.
        if previous == nil, self.sessionLimits.enter(address) != .admitted {
            self.counters.sessionsRefused.add(1)
            session.beginClose(code: Self.busy, reason: "too many sessions of this address, or in all")
            return
        }
        self.limits.leave(address)
        self.counters.halfOpen.add(-1)
        self.counters.sessionsAuthenticated.add(1)
        self.peers[address] = Peer(established: session, pending: nil)
        previous?.end(.replaced, now: .now())
    }

    /// BUSY in the table of codes.
    private static let busy: UInt64 = 4

    override func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason) {
        if session.wasOpen {
            self.counters.sessions.add(-1)
            self.counters.sessionsClosed.add(1)
        } else {
            self.counters.handshakesFailed.add(1)
            self.settings.handshakeFailed?(session.remoteAddress, reason)
        }
    }

    override func sessionLeft(_ session: TunnelSession) {
        if self.recent?.session === session { self.recent = nil }
        guard let address = session.path.address, var peer = self.peers[address] else { return }
        if peer.pending === session {
            peer.pending = nil
            self.limits.leave(address)
            self.counters.halfOpen.add(-1)
        } else if peer.established === session {
            peer.established = nil
            self.sessionLimits.leave(address)
        }
        self.peers[address] = peer.established == nil && peer.pending == nil ? nil : peer
    }

    /// Ends every session with a word to its peer, and the socket.
    func shutDown() {
        self.context.beginTurn()
        let now = NIODeadline.now()
        let sessions = self.peers.values.flatMap { [$0.established, $0.pending].compactMap { $0 } }
        for session in sessions {
            session.abandon(.listenerClosed, code: 0, text: "the gateway stops", now: now)
        }
        self.close()
        self.context.endTurn()
    }
}
