import DTLS
import NIOCore
import Tunnel

/// How a session begins and ends. All on the session's loop.
extension TunnelSession {
    /// How long a hint waits for a sign of life: 3 PTO within these bounds. The lower one keeps a busy peer on a short
    /// path from being given up because of somebody's forged hint.
    private static var hintPatience: ClosedRange<TimeAmount> { .milliseconds(100) ... .milliseconds(500) }

    // MARK: Begin

    /// The peer's PARAMETERS arrived.
    func becomeOpen(now: NIODeadline) {
        guard self.phase == .opening else { return }
        self.phase = .open
        self.wasOpen = true
        self.openingDeadline = nil
        self.driver.sessionOpened(self)
        self.handler?.sessionEstablished(self)
    }

    func becomeAuthenticated() {
        guard !self.isAuthenticated, self.phase == .open || self.phase == .opening else { return }
        self.isAuthenticated = true
        self.authenticationDeadline = nil
        self.tunnel?.authenticated()
        self.driver.sessionAuthenticated(self)
        self.context.touch(self)
    }

    // MARK: Hints

    /// Somebody says that the peer has forgotten us. That alone ends nothing: the peer is asked at once.
    func hinted(now: NIODeadline) {
        guard self.hint == nil, self.phase == .opening || self.phase == .open else { return }
        var patience = Self.hintPatience.upperBound
        if let tunnel = self.tunnel {
            tunnel.ping(now: now)
            // Never shorter than an answer can take, or a forged hint would end sessions on long paths.
            let ceiling = max(patience, tunnel.statistics.rtt * 2)
            patience = max(Self.hintPatience.lowerBound, min(ceiling, tunnel.probeTimeout * 3))
        }
        let countsRecords = self.tunnel != nil
        self.hint = Hint(
            deadline: now + patience,
            received: countsRecords ? self.recordsIn : self.datagramsIn,
            countsRecords: countsRecords
        )
        self.context.touch(self)
    }

    /// The time of a hint is over: was there a sign of life?
    func settleHint(_ hint: Hint, now: NIODeadline) {
        self.hint = nil
        guard (hint.countsRecords ? self.recordsIn : self.datagramsIn) == hint.received else { return }
        self.end(hint.countsRecords ? .lost : .refused, now: now)
    }

    // MARK: End

    func beginClose(code: UInt64, reason: String) {
        guard self.phase == .opening || self.phase == .open, self.wantedClose == nil else { return }
        self.wantedClose = (code, reason)
        self.context.touch(self)
    }

    /// The tunnel is over, by its own word; DTLS may have to repeat it.
    func tunnelClosed(_ reason: TunnelCloseReason, now: NIODeadline) {
        let why: SessionCloseReason
        switch reason {
        case .local(let code, let text): why = self.closeReason ?? .local(code: code, reason: text)
        case .peer(let code, let text): why = .peer(code: code, reason: text)
        case .violation(let error): why = .violation(error)
        case .idleTimeout: why = .idleTimeout
        }
        self.phase = .closing
        self.tellClosed(why)
    }

    /// After everything was sent: is there nothing left to do?
    func noticeEnd(now: NIODeadline) {
        switch self.phase {
        case .opening, .open:
            guard self.dtls.state == .closed else { return }
            let failure = self.dtls.failure
            if self.tunnel != nil {
                self.end(.dtls(failure), now: now)
            } else if failure?.code == .handshakeTimeout {
                self.end(.handshakeTimeout, now: now)
            } else {
                self.end(.handshakeFailed(failure), now: now)
            }
        case .closing:
            // The peer closed: it needs no more words of ours. We did: they are repeated until it has surely heard.
            if self.dtls.state == .closed || self.tunnel?.isOver ?? true || self.tunnel?.isDraining ?? true {
                self.leave()
            }
        case .over:
            break
        }
    }

    /// Ends the session at once, with close_notify if that can be said.
    func end(_ reason: SessionCloseReason, now: NIODeadline) {
        guard self.phase != .over else { return }
        let mustTell = self.phase != .closing
        self.phase = .closing
        if mustTell { self.tellClosed(reason) }
        self.leave()
    }

    /// Ends it in the middle of a turn because its socket goes away: says CONNECTION_CLOSE and close_notify once.
    func abandon(_ reason: SessionCloseReason, code: UInt64, text: String, now: NIODeadline) {
        guard self.phase != .over else { return }
        if self.phase != .closing, let tunnel = self.tunnel, tunnel.isOpen {
            self.closeReason = reason
            self.failAllStreams()
            tunnel.close(code: code, reason: text, now: now)
            self.drive(now: now)
        }
        self.end(reason, now: now)
    }

    private func tellClosed(_ reason: SessionCloseReason) {
        self.hint = nil
        self.openingDeadline = nil
        self.authenticationDeadline = nil
        self.failAllStreams()
        self.driver.sessionClosed(self, reason: reason)
        let handler = self.handler
        self.handler = nil
        handler?.sessionClosed(self, reason: reason)
    }

    /// Nothing is left: says close_notify and is forgotten.
    private func leave() {
        self.phase = .over
        self.dtls.close()
        self.sendFlights()
        self.control.detach()
        self.context.removeDeadline(self)
        self.updateSilence()
        self.driver.sessionLeft(self)
    }
}
