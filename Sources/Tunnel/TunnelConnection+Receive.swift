package import NIOCore

/// Processing of received packets.
extension TunnelConnection {
    /// Processes the plaintext of one DTLS record. The first of the five verbs.
    ///
    /// A violation by the peer does not throw: it closes the tunnel and becomes a `closed` event.
    ///
    /// - Parameters:
    ///   - packet: The plaintext; not used after the call.
    ///   - now: The time of receipt.
    package func handle(packet: UnsafeRawBufferPointer, now: NIODeadline) {
        self.now = max(self.now, now)
        switch phase {
        case .open: break
        case .closing:
            answerAfterClose(packet)
            return
        case .draining, .closed: return
        }
        do throws(TunnelError) {
            try process(packet)
        } catch {
            close(code: error.code.wireCode, reason: error.message, as: .violation(error))
        }
    }

    private func process(_ packet: UnsafeRawBufferPointer) throws(TunnelError) {
        var reader = WireReader(packet)
        let number = try reader.readVarInt()
        guard acks.receive(number, now: now) else {
            counters.duplicatePackets += 1
            return
        }
        guard !reader.isAtEnd else { throw TunnelError(.protocolViolation, "a packet without frames") }
        lastReceived = now
        elicitingSentSinceReceipt = nil
        counters.packetsReceived += 1
        var isEliciting = false
        while let frame = try Frame.next(&reader) {
            if frame.isAckEliciting { isEliciting = true }
            try handle(frame)
            guard isOpen else { return }
        }
        if isEliciting { acks.recordAckEliciting(now: now, maxAckDelay: configuration.maxAckDelay) }
    }

    /// Handles a packet that arrives after our CONNECTION_CLOSE. It is answered by another CONNECTION_CLOSE at a
    /// falling rate (the first packet, the second, the fourth, the eighth …), and a CONNECTION_CLOSE of the peer ends
    /// the answering (RFC 9000 §10.2.1).
    private func answerAfterClose(_ packet: UnsafeRawBufferPointer) {
        packetsSinceClose += 1
        if packetsSinceClose & (packetsSinceClose - 1) == 0 { owesClose = true }
        var reader = WireReader(packet)
        guard (try? reader.readVarInt()) != nil else { return }
        while let frame = try? Frame.next(&reader) {
            if case .connectionClose = frame, case .closing(_, _, let until) = phase {
                phase = .draining(until: until)
                owesClose = false
                return
            }
        }
    }

    private func handle(_ frame: Frame) throws(TunnelError) {
        switch frame {
        case .padding, .ping, .dataBlocked, .streamsBlocked:
            break
        case .ack(let ack):
            try handle(ack)
        case .stream(let id, let offset, let fin, let data):
            try handleStream(id, offset: offset, fin: fin, data: data)
        case .resetStream(let id, let code, let finalSize):
            try handleReset(id, code: code, finalSize: finalSize)
        case .stopSending(let id, let code):
            try handleStopSending(id, code: code)
        case .maxData(let limit):
            guard limit > peerDataLimit else { return }
            peerDataLimit = limit
            resumeStreamsAwaitingData()
        case .maxStreamData(let id, let limit):
            if let stream = try streamNamedByPeer(id), stream.send.raise(limit: limit) { enqueue(stream) }
        case .maxStreams(let limit):
            peerStreamLimit = max(peerStreamLimit, limit)
        case .streamDataBlocked(let id, _):
            _ = try streamNamedByPeer(id)
        case .connectionClose(let code, let reason):
            let text = String(decoding: reason.prefix(256), as: UTF8.self)
            phase = .draining(until: now + closingTime)
            forgetSending()
            events.append(.closed(.peer(code: code, reason: text)))
        case .parameters(let bytes):
            try handleParameters(bytes)
        }
    }

    private func handleParameters(_ bytes: UnsafeRawBufferPointer) throws(TunnelError) {
        if peerParameters != nil {
            guard bytes.elementsEqual(peerParametersBytes) else {
                throw TunnelError(.protocolViolation, "PARAMETERS came again with other values")
            }
            return
        }
        let parameters = try TunnelParameters(decoding: bytes)
        peerParameters = parameters
        peerParametersBytes = Array(bytes)
        peerDataLimit = max(peerDataLimit, parameters.initialMaxData)
        peerStreamLimit = max(peerStreamLimit, parameters.initialMaxStreams)
        events.append(.established)
    }

    private func handleStream(
        _ id: StreamID,
        offset: UInt64,
        fin: Bool,
        data: UnsafeRawBufferPointer
    ) throws(TunnelError) {
        guard let stream = try streamNamedByPeer(id) else { return }
        guard !(fin && stream.isControl) else { throw TunnelError(.protocolViolation, "FIN on the control stream") }
        var newBytes: UInt64 = 0
        let before = stream.footprint
        let arrival = try stream.receive.receive(offset: offset, fin: fin, data: data, newBytes: &newBytes)
        undrained = undrained - before + stream.footprint
        // A stall begins when bytes start to wait, not when the stream last had some.
        if before == 0 { stream.drainedAt = now }
        counters.streamBytesReceived += newBytes
        try account(newBytes, of: stream)
        switch arrival {
        case .nothing: removeIfTerminal(stream)
        case .readable: reportReadable(stream)
        case .tooFragmented: shed(stream)
        }
        if !fin { widen(stream) }
        if undrained > configuration.undrainedHardLimit { shedSlowestStream() }
    }

    /// Counts new bytes against MAX_DATA and raises the limit. MAX_DATA follows the bytes received, not the bytes
    /// consumed: a stalled stream never stops another.
    private func account(_ newBytes: UInt64, of stream: Stream) throws(TunnelError) {
        guard newBytes > 0, !stream.isControl else { return }
        dataReceived += newBytes
        guard dataReceived <= dataLimit else {
            throw TunnelError(.flowControl, "\(dataReceived) bytes sent, \(dataLimit) allowed")
        }
        guard dataReceived + connectionWindow - dataLimit >= connectionWindow / 2 else { return }
        if now - connectionWindowRaisedAt < rtt.smoothed * 2 {
            connectionWindow = min(connectionWindow * 2, configuration.maximumConnectionWindow)
        }
        connectionWindowRaisedAt = now
        dataLimit = dataReceived + connectionWindow
        queueMaxData()
    }

    private func reportReadable(_ stream: Stream) {
        guard !stream.isReadableReported else { return }
        stream.isReadableReported = true
        events.append(.readable(stream.id))
    }

    private func handleReset(_ id: StreamID, code: ApplicationErrorCode, finalSize: UInt64) throws(TunnelError) {
        guard let stream = try streamNamedByPeer(id) else { return }
        guard !stream.isControl else { throw TunnelError(.protocolViolation, "RESET_STREAM on the control stream") }
        var newBytes: UInt64 = 0
        let before = stream.footprint
        let wins = try stream.receive.reset(finalSize: finalSize, newBytes: &newBytes)
        undrained = undrained - before + stream.footprint
        try account(newBytes, of: stream)
        if wins { events.append(.reset(id, code: code)) }
        removeIfTerminal(stream)
    }

    private func handleStopSending(_ id: StreamID, code: ApplicationErrorCode) throws(TunnelError) {
        guard let stream = try streamNamedByPeer(id) else { return }
        guard !stream.isControl else { throw TunnelError(.protocolViolation, "STOP_SENDING on the control stream") }
        guard stream.send.abandon(code: code) else { return }
        controlFrames.append(.resetStream(id))
        events.append(.stopSending(id, code: code))
    }

    /// Resets the stream that has stalled longest among those that hold much. A waiting request with a few undrained
    /// bytes does not fill memory, and resetting it would free nothing.
    private func shedSlowestStream() {
        var slowest: Stream?
        var largest: Stream?
        for stream in streams.values where stream.footprint > 0 {
            if largest.map({ stream.footprint > $0.footprint }) ?? true { largest = stream }
            guard stream.footprint >= configuration.minimumStreamWindow else { continue }
            if slowest.map({ stream.drainedAt < $0.drainedAt }) ?? true { slowest = stream }
        }
        if let victim = slowest ?? largest { shed(victim) }
    }

    /// Resets a stream whose bytes this side cannot hold. Its request may have started, so the code must not claim the
    /// opposite.
    private func shed(_ stream: Stream) {
        guard !stream.isControl else { return }
        counters.overloadedStreams += 1
        let code = ApplicationErrorCode.internalError
        events.append(.reset(stream.id, code: code))
        stopSending(stream.id, code: code)
        reset(stream.id, code: code)
    }
}
