package import NIOCore

/// What the application does with streams.
extension TunnelConnection {
    /// Opens a bidirectional stream; nil while the peer allows no more, or the tunnel is not established or is over.
    package func openStream() -> StreamID? {
        guard isOpen, peerParameters != nil else { return nil }
        guard localStreamsOpened < openableStreams else {
            if streamsBlockedReported != peerStreamLimit {
                streamsBlockedReported = peerStreamLimit
                controlFrames.append(.streamsBlocked(peerStreamLimit))
            }
            return nil
        }
        let sequence = localStreamsOpened + (role == .client ? 1 : 0)
        localStreamsOpened += 1
        let stream = makeStream(StreamID(rawValue: sequence << 2 | role.firstStream))
        widen(stream)
        return stream.id
    }

    /// The client's stream 0 is the control stream: it is open from the start and counts towards no limit.
    private var openableStreams: UInt64 { peerStreamLimit }

    /// Queues bytes. They are always taken: obey ``unsentBytes(_:)`` and `writable`. Ignored once the stream is
    /// finished, reset, stopped by the peer or forgotten.
    package func write(_ id: StreamID, _ bytes: ByteBuffer) {
        guard isOpen, bytes.readableBytes > 0, let stream = streams[id.rawValue], stream.send.isOpenForWriting else {
            return
        }
        stream.send.write(bytes)
        if stream.send.unsent > configuration.unsentHighMark { stream.send.owesWritable = true }
        enqueue(stream)
    }

    /// FIN after what was written.
    package func finish(_ id: StreamID) {
        guard isOpen, !(id == .control), let stream = streams[id.rawValue], stream.send.isOpenForWriting else { return }
        stream.send.finish()
        enqueue(stream)
    }

    /// Abandons our sending side with RESET_STREAM. No effect once the peer has acknowledged everything.
    package func reset(_ id: StreamID, code: ApplicationErrorCode) {
        guard isOpen, id != .control, let stream = streams[id.rawValue], stream.send.abandon(code: code) else { return }
        controlFrames.append(.resetStream(id))
    }

    /// Asks the peer to send no more; what still arrives is counted and thrown away.
    package func stopSending(_ id: StreamID, code: ApplicationErrorCode) {
        guard isOpen, id != .control, let stream = streams[id.rawValue] else { return }
        let mustSend = updatingUndrained(stream) { $0.receive.discard() }
        if mustSend, stream.stopCode == nil {
            stream.stopCode = code
            controlFrames.append(.stopSending(id))
        }
        removeIfTerminal(stream)
    }

    /// All in-order bytes that arrived since the last call; nil: none.
    package func read(_ id: StreamID) -> ByteBuffer? {
        guard let stream = streams[id.rawValue] else { return nil }
        stream.isReadableReported = false
        return stream.receive.read()
    }

    /// Every byte up to FIN was read. Asked after ``read(_:)`` returned nil; then the receiving side is over.
    package func isFinished(_ id: StreamID) -> Bool {
        guard let stream = streams[id.rawValue] else { return false }
        guard stream.receive.isFinished else { return false }
        removeIfTerminal(stream)
        return true
    }

    /// The consumer drained bytes that were read: grants flow-control credit.
    package func consume(_ id: StreamID, _ count: Int) {
        guard isOpen, count > 0, let stream = streams[id.rawValue] else { return }
        stream.drainedAt = now
        updatingUndrained(stream) { $0.receive.consume(UInt64(count)) }
        let limit = stream.receive.nextLimit(
            now: now,
            rtt: rtt.smoothed,
            mayGrow: !stream.isControl && mayGrow(stream),
            maximum: configuration.maximumStreamWindow
        )
        if limit != nil { queueMaxStreamData(stream) }
    }

    /// Above the soft limit only a stream whose own consumer keeps up still grows: it is not what fills memory, and a
    /// frozen window would let stalled streams throttle it.
    private func mayGrow(_ stream: Stream) -> Bool {
        undrained < configuration.undrainedSoftLimit || stream.receive.undrained <= stream.receive.window / 4
    }

    /// Written and never sent.
    package func unsentBytes(_ id: StreamID) -> Int { streams[id.rawValue]?.send.unsent ?? 0 }

    /// False proves that the peer saw nothing of this stream; also after the tunnel's end.
    package func sentAnyByte(_ id: StreamID) -> Bool {
        if let stream = streams[id.rawValue] { return stream.send.sent > 0 }
        return !neverSent.contains(id.rawValue)
    }
}

/// The table of streams.
extension TunnelConnection {
    func makeStream(_ id: StreamID) -> Stream {
        let stream = Stream(
            id: id,
            sendLimit: peerParameters?.initialMaxStreamData ?? 0,
            receiveWindow: configuration.minimumStreamWindow,
            now: now
        )
        streams[id.rawValue] = stream
        return stream
    }

    /// A stream starts with the minimum window, which PARAMETERS promise to all; the usual one follows with its first
    /// packet, unless too much lies undrained already.
    func widen(_ stream: Stream) {
        guard !stream.wasWidened, !stream.isControl else { return }
        stream.wasWidened = true
        guard undrained < configuration.undrainedSoftLimit else { return }
        if stream.receive.widen(to: configuration.initialStreamWindow) { queueMaxStreamData(stream) }
    }

    /// The stream a frame of the peer speaks of. Nil: it was opened and forgotten, so the frame is ignored. Opens
    /// streams of the peer implicitly (RFC 9000 §2.1, §3.2).
    func streamNamedByPeer(_ id: StreamID) throws(TunnelError) -> Stream? {
        if let known = streams[id.rawValue] { return known }
        if id.initiator == role {
            let next = localStreamsOpened + (role == .client ? 1 : 0)
            guard id.sequence < next else {
                throw TunnelError(.protocolViolation, "\(id) was never opened by this side")
            }
            return nil
        }
        let first: UInt64 = role == .client ? 0 : 1
        let ordinal = id.sequence - first
        guard ordinal >= peerStreamsOpened else { return nil }
        guard ordinal < streamLimit else {
            throw TunnelError(.protocolViolation, "\(id) is beyond the limit of \(streamLimit) streams")
        }
        while peerStreamsOpened <= ordinal {
            let opened = makeStream(
                StreamID(rawValue: (peerStreamsOpened + first) << 2 | (role == .client ? 1 : 0))
            )
            peerStreamsOpened += 1
            events.append(.streamOpened(opened.id))
        }
        return streams[id.rawValue]
    }

    func removeIfTerminal(_ stream: Stream) {
        guard stream.isTerminal, streams.removeValue(forKey: stream.id.rawValue) != nil else { return }
        undrained -= stream.footprint
        if stream.isParked { streamsAwaitingData.removeAll { $0 === stream } }
        events.append(.streamClosed(stream.id))
        guard stream.id.initiator != role else { return }
        closedSinceStreamLimit += 1
        if closedSinceStreamLimit >= max(1, configuration.maxStreams / 8) {
            streamLimit += closedSinceStreamLimit
            closedSinceStreamLimit = 0
            queueMaxStreams()
        }
    }

    @discardableResult
    func updatingUndrained<Result>(_ stream: Stream, _ body: (Stream) -> Result) -> Result {
        let before = stream.footprint
        defer { undrained = undrained - before + stream.footprint }
        return body(stream)
    }

    func queueMaxStreamData(_ stream: Stream) {
        guard !stream.owesMaxStreamData else { return }
        stream.owesMaxStreamData = true
        controlFrames.append(.maxStreamData(stream.id))
    }

    func queueMaxStreams() {
        guard !owesMaxStreams else { return }
        owesMaxStreams = true
        controlFrames.append(.maxStreams)
    }

    func queueMaxData() {
        guard !owesMaxData else { return }
        owesMaxData = true
        controlFrames.append(.maxData)
    }
}
