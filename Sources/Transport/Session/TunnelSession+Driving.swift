import DTLS
import NIOCore
import Tunnel

/// The five verbs of DTLS and tunnel, called in the right order. All on the session's loop.
extension TunnelSession {
    /// Bursts of one session in one turn of the loop; others get theirs before it goes on.
    private static var maxBurstsPerTurn: Int { 4 }
    /// What a record may add to a packet.
    private static var maxRecordOverhead: Int { 64 }

    // MARK: In

    /// One datagram from the peer's address. What it causes is reported and answered when the loop's turn ends.
    /// - Returns: whether DTLS vouched for it.
    @discardableResult
    func receive(_ datagram: UnsafeRawBufferPointer, now: NIODeadline) -> Bool {
        guard self.phase != .over else { return false }
        self.datagramsIn &+= 1
        self.dtls.handle(datagram: datagram, now: now)
        self.context.touch(self)
        if self.tunnel == nil && self.dtls.state == .established { self.becomeSecured(now: now) }
        let scratch = self.context.scratch
        var wasAuthentic = false
        while let count = self.dtls.read(into: scratch) {
            wasAuthentic = true
            guard count > 0 else { continue }
            self.recordsIn &+= 1
            self.tunnel?.handle(packet: UnsafeRawBufferPointer(rebasing: scratch[..<count]), now: now)
        }
        return wasAuthentic
    }

    /// DTLS is done: a tunnel begins in it, if the protocol is ours.
    private func becomeSecured(now: NIODeadline) {
        let agreed = self.dtls.alpn
        guard let agreed, self.configuration.applicationProtocols.contains(agreed) else {
            self.end(.wrongProtocol(agreed), now: now)
            return
        }
        var settings = self.configuration.tunnel
        // A client has verified its peer's certificate; an server knows nothing of its peer yet.
        if self.role == .client { settings.startsAuthenticated = true }
        self.tunnel = TunnelConnection(
            role: self.role,
            configuration: settings,
            maxPacketSize: self.configuration.datagramSize - self.dtls.recordOverhead,
            handshakeRTT: self.dtls.handshakeRTT,
            now: now
        )
        self.counters.handshakesFinished.add(1)
        if let patience = self.configuration.authenticationTimeout {
            self.authenticationDeadline = now + patience
        }
        self.driver.sessionSecured(self)
    }

    // MARK: Time

    func handleTimeout(now: NIODeadline) {
        guard self.phase != .over else { return }
        self.context.touch(self)
        if let deadline = self.dtls.pollTimeout(), deadline <= now { self.dtls.handleTimeout(now: now) }
        if let deadline = self.tunnel?.pollTimeout(), deadline <= now { self.tunnel?.handleTimeout(now: now) }
        if let deadline = self.openingDeadline, deadline <= now {
            self.end(.handshakeTimeout, now: now)
            return
        }
        if let deadline = self.authenticationDeadline, deadline <= now {
            self.authenticationDeadline = nil
            self.closeReason = .notAuthenticated
            self.tunnel?.close(code: Self.authenticationFailed, reason: "not authenticated in time", now: now)
        }
        if let hint = self.hint, hint.deadline <= now { self.settleHint(hint, now: now) }
    }

    /// Buffers are given back when no stream was open for so long; between two requests they stay.
    private static var idleBuffersAfter: TimeAmount { .seconds(1) }

    /// Only the keep-alive still runs: between its records the session needs no buffers.
    private func releaseBuffersIfIdle(now: NIODeadline) {
        if self.streams.count > 1 {
            self.busyAt = now
        } else if self.phase == .open, self.busyAt + Self.idleBuffersAfter <= now, self.tunnel?.isQuiet ?? false {
            self.dtls.releaseIdleBuffers()
        }
    }

    /// AUTH_FAILED in the table of codes.
    private static var authenticationFailed: UInt64 { 36 }

    private func updateDeadline(now: NIODeadline) {
        guard self.phase != .over else {
            self.context.removeDeadline(self)
            return
        }
        var next: NIODeadline?
        func consider(_ deadline: NIODeadline?) {
            guard let deadline else { return }
            next = next.map { min($0, deadline) } ?? deadline
        }
        consider(self.dtls.pollTimeout())
        // While the socket is full no pacing deadline can be obeyed; the driver wakes us.
        consider(self.tunnel?.pollTimeout().map { self.isWaitingForRoom ? max($0, self.driver.nextRetry) : $0 })
        consider(self.openingDeadline)
        consider(self.authenticationDeadline)
        consider(self.hint?.deadline)
        if let next {
            self.context.setDeadline(self, at: next)
        } else {
            self.context.removeDeadline(self)
        }
    }

    // MARK: Out

    /// Reports, sends and times whatever is due. Called once a turn for each session that was touched.
    func drive(now: NIODeadline) {
        guard self.phase != .over else { return }
        self.processEvents(now: now)
        if let wanted = self.wantedClose {
            self.wantedClose = nil
            self.closeReason = .local(code: wanted.code, reason: wanted.reason)
            if let tunnel = self.tunnel, tunnel.isOpen {
                // Before the tunnel forgets which of them had sent something.
                self.failAllStreams()
                tunnel.close(code: wanted.code, reason: wanted.reason, now: now)
                self.processEvents(now: now)
            } else if self.phase != .closing {
                self.end(.local(code: wanted.code, reason: wanted.reason), now: now)
            }
        }
        self.sendFlights()
        self.transmit(now: now)
        // What sending caused: writable again.
        self.processEvents(now: now)
        self.noticeEnd(now: now)
        self.releaseBuffersIfIdle(now: now)
        self.updateDeadline(now: now)
        self.updateSilence()
    }

    /// DTLS's own datagrams: handshake flights, alerts.
    func sendFlights() {
        if self.driver.isBlocked {
            self.driver.waitForRoom(self)
            return
        }
        while !self.driver.isBlocked, let count = self.dtls.pollTransmit(into: self.context.arena) {
            let datagram = UnsafeRawBufferPointer(rebasing: self.context.arena[..<count])
            let fate = self.driver.send(datagram, segmentSize: count, path: &self.path)
            self.settle(fate)
        }
    }

    /// Packets are sealed into the arena one after the other and leave in one call.
    private func transmit(now: NIODeadline) {
        guard let tunnel = self.tunnel, self.dtls.state == .established else { return }
        let scratch = self.context.scratch
        let arena = self.context.arena
        let fullPacket = tunnel.maxPacketSize
        let fullDatagram = fullPacket &+ Self.maxRecordOverhead
        var bursts = 0
        while true {
            if self.driver.isBlocked {
                self.driver.waitForRoom(self)
                return
            }
            if bursts == Self.maxBurstsPerTurn {
                self.context.touch(self)
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
                guard let sealed = try? self.dtls.seal(plaintext, into: room) else { break }
                if segments == 0 { segmentSize = sealed }
                length &+= sealed
                segments &+= 1
                // The kernel cuts at one size, so a shorter record is the last.
                if count < fullPacket { break }
            }
            guard length > 0 else { return }
            bursts &+= 1
            let burst = UnsafeRawBufferPointer(rebasing: arena[..<length])
            self.settle(self.driver.send(burst, segmentSize: segmentSize, path: &self.path))
            if isExhausted || self.dtls.state != .established { return }
        }
    }

    private func settle(_ fate: DatagramSender.Fate) {
        switch fate {
        case .sent, .failed, .tooLarge:
            // What was lost here is repaired like any loss; what does not fit is seen in the counters.
            break
        case .blocked:
            self.driver.waitForRoom(self)
        case .refused:
            self.hinted(now: .now())
        }
    }
}
