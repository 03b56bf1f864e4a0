package import NIOCore

/// Acknowledgements, loss detection and timers (RFC 9002).
extension TunnelConnection {
    private static let packetThreshold: UInt64 = 3
    private static let persistentCongestionThreshold: Int64 = 3

    // MARK: ACK

    func handle(_ ack: AckFrame) throws(TunnelError) {
        guard ack.largest < sent.nextNumber else {
            throw TunnelError(.protocolViolation, "ACK of packet \(ack.largest), which was never sent")
        }
        let previousLargest = largestAcknowledged
        var bytes = 0
        var latestSentAt: NIODeadline?
        let largestSentAt = sent.claimSampleTime(ack.largest)
        let oldest = sent.oldest
        ack.forEachRange { range in
            var number = max(range.lowerBound, oldest)
            while number <= range.upperBound {
                if let packet = acknowledge(number) {
                    bytes += packet.size
                    latestSentAt = max(latestSentAt ?? packet.sentAt, packet.sentAt)
                }
                number += 1
            }
        }
        largestAcknowledged = max(previousLargest ?? 0, ack.largest)
        guard let latestSentAt else {
            sent.trim()
            return
        }
        if let largestSentAt {
            let reported = TimeAmount.microseconds(Int64(clamping: min(ack.delayMicroseconds, 1 << 40)))
            let delay = min(reported, peerParameters?.maxAckDelay ?? configuration.maxAckDelay)
            rtt.sample(now - largestSentAt, ackDelay: delay, now: now)
        }
        detectLosses()
        congestion.acknowledged(
            bytes: bytes,
            sentAt: latestSentAt,
            applicationLimited: isApplicationLimited,
            now: now
        )
        sent.trim()
        probeCount = 0
        lastProgress = now
    }

    /// Marks a packet as acknowledged. Returns the packet if it was outstanding.
    private func acknowledge(_ number: UInt64) -> SentPacket? {
        let packet = sent[number]
        guard packet.state == .outstanding else { return nil }
        sent[number].state = .acknowledged
        bytesInFlight -= packet.size
        elicitingInFlight -= 1
        for index in packet.firstFrame..<(packet.firstFrame + packet.frameCount) { delivered(sent.frame(at: index)) }
        return packet
    }

    private func delivered(_ frame: SentFrame) {
        switch frame {
        case .stream(let id, let range, let fin):
            guard let stream = streams[id.rawValue] else { return }
            stream.send.acknowledge(range, fin: fin)
            enqueue(stream)
            removeIfTerminal(stream)
        case .acknowledgement(let largest):
            acks.acknowledged(upTo: largest)
        case .resetStream(let id):
            guard let stream = streams[id.rawValue] else { return }
            stream.send.resetWasAcknowledged()
            removeIfTerminal(stream)
        case .parameters:
            areParametersAcknowledged = true
        case .stopSending, .maxData, .maxStreamData, .maxStreams, .ping, .blocked:
            break
        }
    }

    // MARK: Loss

    /// Declares packets lost by the packet threshold and the time threshold (RFC 9002 §6.1), and sets the loss timer.
    private func detectLosses() {
        guard let largestAcknowledged else { return }
        lossTime = nil
        let lossDelay = rtt.lossDelay
        let sentBefore = now - lossDelay
        var latestLost: NIODeadline?
        var run = LossPeriod()
        var isPersistent = false
        var number = sent.oldest
        while number < min(largestAcknowledged, sent.nextNumber) {
            defer { number += 1 }
            let packet = sent[number]
            switch packet.state {
            case .acknowledged: run = LossPeriod()
            case .lost, .notTracked: break
            case .outstanding:
                let isLost = number + Self.packetThreshold <= largestAcknowledged || packet.sentAt <= sentBefore
                guard isLost else {
                    let due = packet.sentAt + lossDelay
                    lossTime = min(lossTime ?? due, due)
                    run = LossPeriod()
                    continue
                }
                declareLost(number, packet)
                latestLost = max(latestLost ?? packet.sentAt, packet.sentAt)
                if let first = rtt.firstSample, packet.sentAt > first {
                    isPersistent = isPersistent || run.extend(packet.sentAt) > persistentCongestionDuration
                }
            }
        }
        if let latestLost { congestion.congestion(sentAt: latestLost, persistent: isPersistent, now: now) }
    }

    /// A period of lost packets with no acknowledged packet between them (RFC 9002 §7.6).
    private struct LossPeriod {
        var start: NIODeadline?

        mutating func extend(_ sentAt: NIODeadline) -> TimeAmount {
            let begin = start ?? sentAt
            start = begin
            return sentAt - begin
        }
    }

    private var persistentCongestionDuration: TimeAmount {
        .nanoseconds(Self.persistentCongestionThreshold * probeTimeout.nanoseconds)
    }

    private func declareLost(_ number: UInt64, _ packet: SentPacket) {
        sent[number].state = .lost
        bytesInFlight -= packet.size
        elicitingInFlight -= 1
        counters.packetsLost += 1
        requeueFrames(of: packet)
    }

    private func requeueFrames(of packet: SentPacket) {
        for index in packet.firstFrame..<(packet.firstFrame + packet.frameCount) { requeue(sent.frame(at: index)) }
    }

    /// Queues a lost frame again. Frames that announce a limit are repeated with its newest value, all others
    /// unchanged.
    private func requeue(_ frame: SentFrame) {
        switch frame {
        case .stream(let id, let range, let fin):
            guard let stream = streams[id.rawValue] else { return }
            stream.send.markLost(range, fin: fin)
            enqueueRetransmission(stream)
        case .resetStream(let id):
            guard let stream = streams[id.rawValue] else { return }
            stream.send.resetWasLost()
            if stream.send.isResetQueued { controlFrames.append(.resetStream(id)) }
        case .stopSending(let id):
            if streams[id.rawValue] != nil { controlFrames.append(.stopSending(id)) }
        case .maxData: queueMaxData()
        case .maxStreamData(let id):
            if let stream = streams[id.rawValue] { queueMaxStreamData(stream) }
        case .maxStreams: queueMaxStreams()
        case .parameters: owesParameters = true
        case .acknowledgement, .ping, .blocked: break
        }
    }

    // MARK: Timers

    /// Returns the deadline at which ``handleTimeout(now:)`` has to be called, or `nil` if there is none until another
    /// call changes that. Poll it again after every other verb.
    package func pollTimeout() -> NIODeadline? {
        switch phase {
        case .open: break
        case .closing(_, _, let until), .draining(let until): return until
        case .closed: return nil
        }
        var next = min(idleDeadline, stallDeadline)
        if let recovery = lossTime ?? probeDeadline { next = min(next, recovery) }
        if let ack = acks.deadline { next = min(next, ack) }
        if let keepAlive = keepAliveDeadline { next = min(next, keepAlive) }
        if hasElicitingFrames, bytesInFlight + maxPacketSize <= congestion.window, !pacer.allowsPacket {
            next = min(next, pacer.nextBurst)
        }
        return next
    }

    private var probeDeadline: NIODeadline? {
        guard elicitingInFlight > 0 else { return nil }
        let backedOff = min(probeTimeout.nanoseconds << min(probeCount, 16), TimeAmount.seconds(60).nanoseconds)
        return lastElicitingSentAt + .nanoseconds(backedOff)
    }

    private var idleDeadline: NIODeadline {
        let agreed = min(configuration.idleTimeout, peerParameters?.idleTimeout ?? configuration.idleTimeout)
        let patience = max(agreed, .nanoseconds(3 * probeTimeout.nanoseconds))
        return max(lastReceived, elicitingSentSinceReceipt ?? lastReceived) + patience
    }

    /// The deadline for an acknowledgement. A peer that sends and never acknowledges is as dead as a silent one, and
    /// the data kept for it would only grow.
    private var stallDeadline: NIODeadline {
        guard elicitingInFlight > 0 else { return .distantFuture }
        return lastProgress + max(configuration.idleTimeout, .nanoseconds(3 * probeTimeout.nanoseconds))
    }

    private var keepAliveDeadline: NIODeadline? {
        guard let keepAliveInterval, elicitingInFlight == 0 else { return nil }
        return max(lastReceived, lastElicitingSentAt) + keepAliveInterval
    }

    /// Handles all timers that are due. Poll events, packets and the next deadline afterwards.
    package func handleTimeout(now: NIODeadline) {
        self.now = max(self.now, now)
        switch phase {
        case .open: break
        case .closing(_, _, let until), .draining(let until):
            if until <= self.now { phase = .closed }
            return
        case .closed: return
        }
        if min(idleDeadline, stallDeadline) <= self.now {
            phase = .closed
            forgetEverything()
            events.append(.closed(.idleTimeout))
            return
        }
        if let lossTime, lossTime <= self.now {
            detectLosses()
            sent.trim()
        } else if lossTime == nil, let probe = probeDeadline, probe <= self.now {
            sendProbes()
        }
        if let keepAlive = keepAliveDeadline, keepAlive <= self.now { owesPing = true }
    }

    /// Requests two probe packets beyond the congestion window (RFC 9002 §6.2.4). They repeat the oldest frames in
    /// flight, so that the probe itself repairs a lost tail.
    private func sendProbes() {
        probeCount += 1
        counters.probeTimeouts += 1
        probesToSend = 2
        var repeated = 0
        var number = sent.oldest
        while repeated < 2, number < sent.nextNumber {
            let packet = sent[number]
            if packet.state == .outstanding {
                requeueFrames(of: packet)
                repeated += 1
            }
            number += 1
        }
    }
}
