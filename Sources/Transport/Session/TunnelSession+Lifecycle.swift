import DTLS
package import NIOCore
import Tunnel

/// The beginning and the end of a session. All on the session's loop.
extension TunnelSession {
    /// The time for which a peer-gone indication waits for an authenticated record: 3 PTO within these bounds. The
    /// lower bound keeps a busy peer on a short path from being suspected because of a forged indication.
    private static var probeWait: ClosedRange<TimeAmount> { .milliseconds(100) ... .milliseconds(500) }

    // MARK: Begin

    /// Opens the session: the peer's PARAMETERS have arrived.
    func parametersReceived(now: NIODeadline) {
        guard phase == .opening else { return }
        phase = .open
        wasOpen = true
        openingDeadline = nil
        driver.sessionOpened(self)
        handler?.sessionEstablished(self)
    }

    /// Marks the session as authenticated and raises its limits.
    func markAuthenticated() {
        guard !isAuthenticated, phase == .open || phase == .opening else { return }
        isAuthenticated = true
        authenticationDeadline = nil
        tunnel?.authenticated()
        driver.sessionAuthenticated(self)
        context.touch(self)
    }

    // MARK: Peer-gone indications

    /// Records an unauthenticated indication that the peer has lost this session. It ends nothing by itself: a PING
    /// asks the peer at once.
    package func peerMayBeGone(now: NIODeadline) {
        guard phase == .opening || phase == .open else { return }
        guard peerGoneIndication == nil else {
            peerGoneIndication?.isRepeated = true
            return
        }
        var wait = Self.probeWait.upperBound
        if let tunnel {
            tunnel.ping(now: now)
            // Never shorter than an answer can take, or a forged indication would suspect sessions on long paths.
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

    /// Reports the indication if nothing was received since then. It ends no session that is open: the sender of a
    /// forged indication would only have to wait until the peer is busy for a moment.
    func resolvePeerGoneIndication(_ indication: PeerGoneIndication, now: NIODeadline) {
        peerGoneIndication = nil
        guard (indication.countsRecords ? recordsIn : datagramsIn) == indication.received else {
            return
        }
        if wasOpen {
            handler?.sessionSuspected(self)
        } else if indication.isRepeated {
            end(.refused, now: now)
        }
    }

    // MARK: End

    /// Requests a close; the end of the turn performs it.
    func beginClose(_ code: ApplicationErrorCode, reason: String) {
        guard phase == .opening || phase == .open, pendingClose == nil else { return }
        pendingClose = (code, reason)
        context.touch(self)
    }

    /// Closes the session after the tunnel has closed. DTLS may still have to repeat CONNECTION_CLOSE.
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

    /// Terminates the session if nothing is left to do. Called after everything has been sent.
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
            // If the peer closed, it needs nothing more from us. If we did, CONNECTION_CLOSE is repeated until the
            // closing time has passed.
            if dtls.state == .closed || tunnel?.isClosed ?? true || tunnel?.isDraining ?? true {
                terminate()
            }
        case .closed:
            break
        }
    }

    /// Closes and terminates the session at once. Sends close_notify if possible.
    func end(_ reason: SessionCloseReason, now: NIODeadline) {
        guard phase != .closed else { return }
        let mustReport = phase != .closing
        phase = .closing
        if mustReport { reportClosed(reason) }
        terminate()
    }

    /// Closes the session within a turn because its socket is being closed. Sends CONNECTION_CLOSE and close_notify
    /// once.
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

    /// Ends the session because another one needs its place among the half-open ones. Called on any thread; does
    /// nothing if the peer authenticates itself in the meantime.
    func evict() {
        onLoop { session in
            if !session.isAuthenticated { session.end(.evicted, now: .now()) }
        }
    }

    /// Fails all streams and reports the close to the driver and the owner.
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

    /// Sends close_notify and releases the session.
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
