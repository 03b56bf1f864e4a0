import DTLS
import NIOCore
import Tunnel

/// Calls of the five verbs of DTLS and tunnel, in the right order. All on the session's loop.
extension TunnelSession {
    /// The most bursts of one session in one turn of the loop. Other sessions send theirs before it continues.
    private static var maxBurstsPerTurn: Int { 4 }
    /// The most bytes that a record may add to a packet.
    private static var maxRecordOverhead: Int { 64 }

    // MARK: In

    /// Processes one datagram from the peer's address. Its effects are reported and answered when the loop's turn ends.
    ///
    /// - Parameter local: The address that it was sent to, or `nil` if the socket has only one. If DTLS authenticates
    ///   the datagram, the session sends from this address from now on.
    /// - Returns: Whether DTLS authenticated it.
    @discardableResult
    func receive(_ datagram: UnsafeRawBufferPointer, to local: UDPAddress?, now: NIODeadline) -> Bool {
        guard phase != .closed else { return false }
        datagramsIn &+= 1
        dtls.handle(datagram: datagram, now: now)
        context.touch(self)
        if tunnel == nil && dtls.state == .established { handshakeCompleted(now: now) }
        let scratch = context.scratch
        var wasAuthentic = false
        while let count = dtls.read(into: scratch) {
            wasAuthentic = true
            guard count > 0 else { continue }
            recordsIn &+= 1
            tunnel?.handle(packet: UnsafeRawBufferPointer(rebasing: scratch[..<count]), now: now)
        }
        if wasAuthentic, let local { path.local = local }
        return wasAuthentic
    }

    /// Creates the tunnel after the DTLS handshake, if the agreed application protocol is one of ours.
    private func handshakeCompleted(now: NIODeadline) {
        let agreed = dtls.alpn
        guard let agreed, configuration.applicationProtocols.contains(agreed) else {
            end(.wrongProtocol(agreed), now: now)
            return
        }
        var settings = configuration.tunnel
        // A client has verified its peer's certificate. A server knows nothing of its peer yet.
        if role == .client { settings.startsAuthenticated = true }
        tunnel = TunnelConnection(
            role: role,
            configuration: settings,
            maxPacketSize: configuration.datagramSize - dtls.recordOverhead,
            handshakeRTT: dtls.handshakeRTT,
            now: now
        )
        counters.handshakesFinished.add(1)
        if let wait = configuration.authenticationTimeout {
            authenticationDeadline = now + wait
        }
        driver.sessionSecured(self)
    }

    // MARK: Time

    /// Handles every deadline of the session that has passed.
    func handleTimeout(now: NIODeadline) {
        guard phase != .closed else { return }
        context.touch(self)
        if let deadline = dtls.pollTimeout(), deadline <= now { dtls.handleTimeout(now: now) }
        if let deadline = tunnel?.pollTimeout(), deadline <= now { tunnel?.handleTimeout(now: now) }
        if let deadline = openingDeadline, deadline <= now {
            end(.handshakeTimeout, now: now)
            return
        }
        if let deadline = authenticationDeadline, deadline <= now {
            authenticationDeadline = nil
            closeReason = .notAuthenticated
            tunnel?.close(code: .authFailed, reason: "not authenticated in time", now: now)
        }
        if let peerGoneIndication, peerGoneIndication.deadline <= now {
            resolvePeerGoneIndication(peerGoneIndication, now: now)
        }
    }

    /// The time without open streams after which record buffers are released. Between two requests they are kept.
    private static var idleBuffersAfter: TimeAmount { .seconds(1) }

    /// Releases the record buffers while only the keep-alive runs: the session needs none between its records.
    private func releaseBuffersIfIdle(now: NIODeadline) {
        if streams.count > 1 {
            busyAt = now
        } else if phase == .open, busyAt + Self.idleBuffersAfter <= now, tunnel?.isQuiet ?? false {
            dtls.releaseIdleBuffers()
        }
    }

    /// Sets the session's deadline in the loop's heap to the earliest of all that it waits for.
    private func updateDeadline(now: NIODeadline) {
        guard phase != .closed else {
            context.removeDeadline(self)
            return
        }
        var next: NIODeadline?
        func consider(_ deadline: NIODeadline?) {
            guard let deadline else { return }
            next = next.map { min($0, deadline) } ?? deadline
        }
        consider(dtls.pollTimeout())
        // While the socket is full no pacing deadline can be met. The driver wakes the session.
        consider(tunnel?.pollTimeout().map { isWaitingForRoom ? max($0, driver.nextRetry) : $0 })
        consider(openingDeadline)
        consider(authenticationDeadline)
        consider(peerGoneIndication?.deadline)
        if let next {
            context.setDeadline(self, at: next)
        } else {
            context.removeDeadline(self)
        }
    }

    // MARK: Out

    /// Reports events, sends what is due and sets the next deadline. Called once per turn for each session that was
    /// touched.
    func drive(now: NIODeadline) {
        guard phase != .closed else { return }
        processEvents(now: now)
        if let wanted = pendingClose {
            pendingClose = nil
            closeReason = .local(code: wanted.code, reason: wanted.reason)
            if let tunnel, tunnel.isOpen {
                // Called before the tunnel forgets which of the streams have sent bytes.
                failAllStreams()
                tunnel.close(code: wanted.code, reason: wanted.reason, now: now)
                processEvents(now: now)
            } else if phase != .closing {
                end(.local(code: wanted.code, reason: wanted.reason), now: now)
            }
        }
        sendFlights()
        transmit(now: now)
        // Events that sending has caused, such as `writable`.
        processEvents(now: now)
        terminateIfDone(now: now)
        releaseBuffersIfIdle(now: now)
        updateDeadline(now: now)
        updateSilence()
    }

    /// Sends DTLS's own datagrams: handshake flights and alerts.
    func sendFlights() {
        if driver.isBlocked {
            driver.waitForRoom(self)
            return
        }
        while !driver.isBlocked, let count = dtls.pollTransmit(into: context.arena) {
            let datagram = UnsafeRawBufferPointer(rebasing: context.arena[..<count])
            let outcome = driver.send(datagram, segmentSize: count, path: &path)
            settle(outcome)
        }
    }

    /// Sends the tunnel's packets. They are sealed into the arena one after the other and leave in one call.
    private func transmit(now: NIODeadline) {
        guard let tunnel, dtls.state == .established else { return }
        let scratch = context.scratch
        let arena = context.arena
        let fullPacket = tunnel.maxPacketSize
        let fullDatagram = fullPacket &+ Self.maxRecordOverhead
        var bursts = 0
        while true {
            if driver.isBlocked {
                driver.waitForRoom(self)
                return
            }
            if bursts == Self.maxBurstsPerTurn {
                context.touch(self)
                return
            }
            let limit = min(tunnel.burstLimit, DatagramSender.maxSegments)
            var length = 0
            var segments = 0
            var segmentSize = 0
            var isExhausted = false
            while segments < limit && length &+ fullDatagram <= DatagramSender.maxBurstBytes {
                guard let count = tunnel.pollTransmit(now: now, into: scratch) else {
                    isExhausted = true
                    break
                }
                let room = UnsafeMutableRawBufferPointer(rebasing: arena[length...])
                let plaintext = UnsafeRawBufferPointer(rebasing: scratch[..<count])
                guard let sealed = try? dtls.seal(plaintext, into: room) else { break }
                if segments == 0 { segmentSize = sealed }
                length &+= sealed
                segments &+= 1
                // The kernel cuts a burst at one size, so a shorter record is the last.
                if count < fullPacket { break }
            }
            guard length > 0 else { return }
            bursts &+= 1
            let burst = UnsafeRawBufferPointer(rebasing: arena[..<length])
            settle(driver.send(burst, segmentSize: segmentSize, path: &path))
            if isExhausted || dtls.state != .established { return }
        }
    }

    private func settle(_ outcome: DatagramSender.Outcome) {
        switch outcome {
        case .sent, .failed, .tooLarge:
            // A loss here is repaired like any loss. Datagrams that are too large show in the counters.
            break
        case .blocked:
            driver.waitForRoom(self)
        case .refused:
            peerMayBeGone(now: .now())
        }
    }
}
