package import NIOCore

/// Construction of packets to send.
extension TunnelConnection {
    /// Writes the plaintext of the next packet and returns its length, or `nil` if no packet may be sent now.
    ///
    /// A packet shorter than ``maxPacketSize`` is the last of a burst: while more data waits the packet is padded to
    /// the full size, so that a burst can leave in one GSO call.
    ///
    /// - Parameters:
    ///   - now: The time of sending.
    ///   - buffer: At least ``maxPacketSize`` bytes.
    package func pollTransmit(now: NIODeadline, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        self.now = max(self.now, now)
        switch phase {
        case .open: return writePacket(UnsafeMutableRawBufferPointer(rebasing: buffer[..<maxPacketSize]))
        case .closing(let code, let reason, _): return writeClose(code, reason, buffer)
        case .draining, .closed: return nil
        }
    }

    /// The number of packets that may leave in one system call now.
    package var burstLimit: Int { max(1, min(64, max(pacer.packets, probesToSend))) }

    var mayElicit: Bool {
        probesToSend > 0 || (bytesInFlight + maxPacketSize <= congestion.window && pacer.allowsPacket)
    }

    var hasElicitingFrames: Bool {
        owesPing || (owesParameters && !areParametersAcknowledged) || !controlFrames.isEmpty || hasSendableStreams
    }

    private func writePacket(_ buffer: UnsafeMutableRawBufferPointer) -> Int? {
        refillPacer()
        let elicits = mayElicit && (hasElicitingFrames || probesToSend > 0)
        if !elicits {
            isApplicationLimited = !hasElicitingFrames && bytesInFlight + maxPacketSize <= congestion.window
            guard acks.isDue(now) else { return nil }
        }
        let number = sent.nextNumber
        let firstFrame = sent.frameCursor
        var writer = WireWriter(buffer)
        writer.write(varInt: number)
        if acks.isPending, let largest = acks.largest, acks.write(to: &writer, now: now), elicits {
            sent.append(frame: .acknowledgement(largest: largest))
        }
        if elicits {
            if writeElicitingFrames(&writer) { writer.pad(to: maxPacketSize) }
            if probesToSend > 0 { probesToSend -= 1 }
        }
        let size = writer.count
        sent.append(
            packet: SentPacket(
                sentAt: now,
                size: size,
                state: elicits ? .outstanding : .notTracked,
                firstFrame: firstFrame,
                frameCount: sent.frameCursor - firstFrame
            )
        )
        counters.packetsSent += 1
        if elicits {
            if elicitingInFlight == 0 { lastProgress = max(lastProgress, now) }
            bytesInFlight += size
            elicitingInFlight += 1
            lastElicitingSentAt = now
            if elicitingSentSinceReceipt == nil { elicitingSentSinceReceipt = now }
            pacer.spend(size)
        }
        return size
    }

    private func refillPacer() {
        pacer.refill(rate: congestion.pacingRate(rtt: rtt), now: now)
    }

    /// Writes ack-eliciting frames into a packet. Returns whether space ran out before the frames did.
    private func writeElicitingFrames(_ writer: inout WireWriter) -> Bool {
        let before = sent.frameCursor
        if !areParametersAcknowledged {
            parameters.write(to: &writer)
            sent.append(frame: .parameters)
            owesParameters = false
        }
        if owesPing {
            owesPing = false
            writer.write(varInt: FrameType.ping)
            sent.append(frame: .ping)
        }
        if writeControlFrames(&writer) { return true }
        if writeStreamFrames(&writer) { return true }
        if sent.frameCursor == before {
            writer.write(varInt: FrameType.ping)
            sent.append(frame: .ping)
        }
        return false
    }

    /// The size of the longest control frame in bytes: a type and three 8-byte integers.
    private static let controlFrameLimit = 25

    private func writeControlFrames(_ writer: inout WireWriter) -> Bool {
        while let frame = controlFrames.first {
            guard writer.remaining >= Self.controlFrameLimit else { return true }
            controlFrames.removeFirst()
            write(frame, &writer)
        }
        return false
    }

    private func write(_ frame: ControlFrame, _ writer: inout WireWriter) {
        switch frame {
        case .resetStream(let id):
            guard let stream = streams[id.rawValue], stream.send.isResetQueued else { return }
            stream.send.resetWasSent()
            integers(FrameType.resetStream, id.rawValue, stream.send.resetCode.rawValue, stream.send.sent, to: &writer)
            sent.append(frame: .resetStream(id))
        case .stopSending(let id):
            guard let stream = streams[id.rawValue], let code = stream.stopCode, !stream.receive.isTerminal else {
                return
            }
            integers(FrameType.stopSending, id.rawValue, code.rawValue, to: &writer)
            sent.append(frame: .stopSending(id))
        case .maxData:
            owesMaxData = false
            integers(FrameType.maxData, dataLimit, to: &writer)
            sent.append(frame: .maxData)
        case .maxStreamData(let id):
            guard let stream = streams[id.rawValue] else { return }
            stream.owesMaxStreamData = false
            guard stream.receive.finalSize == nil else { return }
            integers(FrameType.maxStreamData, id.rawValue, stream.receive.limit, to: &writer)
            sent.append(frame: .maxStreamData(id))
        case .maxStreams:
            owesMaxStreams = false
            integers(FrameType.maxStreams, streamLimit, to: &writer)
            sent.append(frame: .maxStreams)
        case .dataBlocked(let limit):
            integers(FrameType.dataBlocked, limit, to: &writer)
            sent.append(frame: .blocked)
        case .streamDataBlocked(let id, let limit):
            integers(FrameType.streamDataBlocked, id.rawValue, limit, to: &writer)
            sent.append(frame: .blocked)
        case .streamsBlocked(let limit):
            integers(FrameType.streamsBlocked, limit, to: &writer)
            sent.append(frame: .blocked)
        }
    }

    private func integers(
        _ type: UInt64,
        _ a: UInt64,
        _ b: UInt64? = nil,
        _ c: UInt64? = nil,
        to writer: inout WireWriter
    ) {
        writer.write(varInt: type)
        writer.write(varInt: a)
        if let b { writer.write(varInt: b) }
        if let c { writer.write(varInt: c) }
    }

    private func writeClose(_ code: ApplicationErrorCode, _ reason: String, _ buffer: UnsafeMutableRawBufferPointer)
        -> Int?
    {
        guard owesClose else { return nil }
        owesClose = false
        var writer = WireWriter(UnsafeMutableRawBufferPointer(rebasing: buffer[..<maxPacketSize]))
        writer.write(varInt: sent.nextNumber)
        writer.write(varInt: FrameType.connectionCloseApplication)
        writer.write(varInt: code.rawValue)
        var text = reason
        text.withUTF8 { bytes in
            let short = UnsafeRawBufferPointer(bytes).prefix(256)
            writer.write(varInt: UInt64(short.count))
            writer.write(bytes: UnsafeRawBufferPointer(rebasing: short))
        }
        let packet = SentPacket(
            sentAt: now,
            size: writer.count,
            state: .notTracked,
            firstFrame: sent.frameCursor,
            frameCount: 0
        )
        sent.append(packet: packet)
        counters.packetsSent += 1
        return writer.count
    }
}
