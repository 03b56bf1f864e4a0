import DTLS
import NIOCore
import Tunnel

/// How a session begins and ends. All on the session's loop.
extension TunnelSession {
    /// How long a peerGoneIndication waits for a sign of life: 3 PTO within these bounds. The lower one keeps a busy peer on a short
    /// path from being given up because of somebody's forged peerGoneIndication.
    private static var probeWait: ClosedRange<TimeAmount> { .milliseconds(100) ... .milliseconds(500) }

    // MARK: Begin

    /// The peer's PARAMETERS arrived.
    func parametersReceived(now: NIODeadline) {
        guard phase == .opening else { return }
        phase = .open
        wasOpen = true
        openingDeadline = nil
        driver.sessionOpened(self)
        handler?.sessionEstablished(self)
    }

    func markAuthenticated() {
        guard !isAuthenticated, phase == .open || phase == .opening else { return }
        isAuthenticated = true
        authenticationDeadline = nil
        tunnel?.authenticated()
        driver.sessionAuthenticated(self)
        context.touch(self)
    }

    // MARK: Hints

    /// Somebody says that the peer has forgotten us. That alone ends nothing: the peer is asked at once.
    func peerMayBeGone(now: NIODeadline) {
        guard peerGoneIndication == nil, phase == .opening || phase == .open else { return }
        var wait = Self.probeWait.upperBound
        if let tunnel {
            tunnel.ping(now: now)
            // Never shorter than an answer can take, or a forged peerGoneIndication would end sessions on long paths.
            let ceiling = max(wait, tunnel.statistics.rtt * 2)
            wait = max(Self.probeWait.lowerBound, min(ceiling, tunnel.probeTimeout * 3))
        }
        let countsRecords = tunnel != nil
        peerGoneIndication = PeerGoneIndication(
            deadline: now + wait,
            received: countsRecords ? recordsIn : datagramsIn,
            countsRecords: countsRecords
        )
        context.touch(self)
    }

    /// The time of a peerGoneIndication is over: was there a sign of life?
    func resolvePeerGoneIndication(_ peerGoneIndication: PeerGoneIndication, now: NIODeadline) {
        self.peerGoneIndication = nil
        guard (peerGoneIndication.countsRecords ? recordsIn : datagramsIn) == peerGoneIndication.received else { return }
        end(peerGoneIndication.countsRecords ? .lost : .refused, now: now)
    }

    // MARK: End

    func beginClose(_ code: ApplicationErrorCode, reason: String) {
        guard phase == .opening || phase == .open, pendingClose == nil else { return }
        pendingClose = (code, reason)
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
        reportClosed(why)
    }

    /// After everything was sent: is there nothing left to do?
    func terminateIfDone(now: NIODeadline) {
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
            if dtls.state == .closed || tunnel?.isClosed ?? true || tunnel?.isDraining ?? true {
                terminate()
            }
        case .closed:
            break
        }
    }

    /// Ends the session at once, with close_notify if that can be said.
    func end(_ reason: SessionCloseReason, now: NIODeadline) {
        guard phase != .closed else { return }
        let mustReport = phase != .closing
        phase = .closing
        if mustReport { reportClosed(reason) }
        terminate()
    }

    /// Ends it in the middle of a turn because its socket goes away: says CONNECTION_CLOSE and close_notify once.
    func closeImmediately(_ reason: SessionCloseReason, code: ApplicationErrorCode, text: String, now: NIODeadline) {
        guard phase != .closed else { return }
        if phase != .closing, let tunnel, tunnel.isOpen {
            closeReason = reason
            failAllStreams()
            tunnel.close(code: code, reason: text, now: now)
            drive(now: now)
        }
        end(reason, now: now)
    }

    private func reportClosed(_ reason: SessionCloseReason) {
        peerGoneIndication = nil
        openingDeadline = nil
        authenticationDeadline = nil
        failAllStreams()
        driver.sessionClosed(self, reason: reason)
        let handler = self.handler
        self.handler = nil
        handler?.sessionClosed(self, reason: reason)
    }

    /// Nothing is left: says close_notify and is forgotten.
    private func terminate() {
        phase = .closed
        dtls.close()
        sendFlights()
        control.detach()
        context.removeDeadline(self)
        updateSilence()
        driver.sessionTerminated(self)
    }
}
