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
        guard phase == .opening else { return }
        phase = .open
        wasOpen = true
        openingDeadline = nil
        driver.sessionOpened(self)
        handler?.sessionEstablished(self)
    }

    func becomeAuthenticated() {
        guard !isAuthenticated, phase == .open || phase == .opening else { return }
        isAuthenticated = true
        authenticationDeadline = nil
        tunnel?.authenticated()
        driver.sessionAuthenticated(self)
        context.touch(self)
    }

    // MARK: Hints

    /// Somebody says that the peer has forgotten us. That alone ends nothing: the peer is asked at once.
    func hinted(now: NIODeadline) {
        guard hint == nil, phase == .opening || phase == .open else { return }
        var patience = Self.hintPatience.upperBound
        if let tunnel {
            tunnel.ping(now: now)
            // Never shorter than an answer can take, or a forged hint would end sessions on long paths.
            let ceiling = max(patience, tunnel.statistics.rtt * 2)
            patience = max(Self.hintPatience.lowerBound, min(ceiling, tunnel.probeTimeout * 3))
        }
        let countsRecords = tunnel != nil
        hint = Hint(
            deadline: now + patience,
            received: countsRecords ? recordsIn : datagramsIn,
            countsRecords: countsRecords
        )
        context.touch(self)
    }

    /// The time of a hint is over: was there a sign of life?
    func settleHint(_ hint: Hint, now: NIODeadline) {
        self.hint = nil
        guard (hint.countsRecords ? recordsIn : datagramsIn) == hint.received else { return }
        end(hint.countsRecords ? .lost : .refused, now: now)
    }

    // MARK: End

    func beginClose(_ code: ApplicationErrorCode, reason: String) {
        guard phase == .opening || phase == .open, wantedClose == nil else { return }
        wantedClose = (code, reason)
        context.touch(self)
    }

    /// The tunnel is over, by its own word; DTLS may have to repeat it.
    func tunnelClosed(_ reason: TunnelCloseReason, now: NIODeadline) {
        let why: SessionCloseReason
        switch reason {
        case .local(let code, let text): why = closeReason ?? .local(code: code, reason: text)
        case .peer(let code, let text): why = .peer(code: code, reason: text)
        case .violation(let error): why = .violation(error)
        case .idleTimeout: why = .idleTimeout
        }
        phase = .closing
        tellClosed(why)
    }

    /// After everything was sent: is there nothing left to do?
    func noticeEnd(now: NIODeadline) {
        switch phase {
        case .opening, .open:
            guard dtls.state == .closed else { return }
            let failure = dtls.failure
            if tunnel != nil {
                end(.dtls(failure), now: now)
            } else if failure?.code == .handshakeTimeout {
                end(.handshakeTimeout, now: now)
            } else {
                end(.handshakeFailed(failure), now: now)
            }
        case .closing:
            // The peer closed: it needs no more words of ours. We did: they are repeated until it has surely heard.
            if dtls.state == .closed || tunnel?.isOver ?? true || tunnel?.isDraining ?? true {
                leave()
            }
        case .over:
            break
        }
    }

    /// Ends the session at once, with close_notify if that can be said.
    func end(_ reason: SessionCloseReason, now: NIODeadline) {
        guard phase != .over else { return }
        let mustTell = phase != .closing
        phase = .closing
        if mustTell { tellClosed(reason) }
        leave()
    }

    /// Ends it in the middle of a turn because its socket goes away: says CONNECTION_CLOSE and close_notify once.
    func abandon(_ reason: SessionCloseReason, code: ApplicationErrorCode, text: String, now: NIODeadline) {
        guard phase != .over else { return }
        if phase != .closing, let tunnel, tunnel.isOpen {
            closeReason = reason
            failAllStreams()
            tunnel.close(code: code, reason: text, now: now)
            drive(now: now)
        }
        end(reason, now: now)
    }

    private func tellClosed(_ reason: SessionCloseReason) {
        hint = nil
        openingDeadline = nil
        authenticationDeadline = nil
        failAllStreams()
        driver.sessionClosed(self, reason: reason)
        let handler = self.handler
        self.handler = nil
        handler?.sessionClosed(self, reason: reason)
    }

    /// Nothing is left: says close_notify and is forgotten.
    private func leave() {
        phase = .over
        dtls.close()
        sendFlights()
        control.detach()
        context.removeDeadline(self)
        updateSilence()
        driver.sessionLeft(self)
    }
}
