package import NIOCore

/// Operations of the application on streams.
extension TunnelConnection {
    /// Opens a bidirectional stream. Returns `nil` while the peer allows no more, and when the tunnel is not
    /// established or is closed.
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

    /// The number of streams that this end may open. The client's stream 0 is the control stream: it is open from the
    /// start and counts towards no limit.
    private var openableStreams: UInt64 { peerStreamLimit }

    /// Queues bytes. They are always accepted: the caller limits itself by ``unsentBytes(_:)`` and the `writable`
    /// event. The call has no effect once the stream is finished, reset, stopped by the peer or forgotten.
    package func write(_ id: StreamID, _ bytes: ByteBuffer) {
        guard isOpen, bytes.readableBytes > 0, let stream = streams[id.rawValue], stream.send.isOpenForWriting else {
            return
        }
        stream.send.write(bytes)
        if stream.send.unsent > configuration.unsentHighMark { stream.send.owesWritable = true }
        enqueue(stream)
    }

    /// Ends our sending side with FIN after the bytes written so far.
    package func finish(_ id: StreamID) {
        guard isOpen, !(id == .control), let stream = streams[id.rawValue], stream.send.isOpenForWriting else { return }
        stream.send.finish()
        enqueue(stream)
    }

    /// Abandons our sending side with RESET_STREAM (RFC 9000 §3.1). No effect once the peer has acknowledged
    /// everything.
    package func reset(_ id: StreamID, code: ApplicationErrorCode) {
        guard isOpen, id != .control, let stream = streams[id.rawValue], stream.send.abandon(code: code) else { return }
        controlFrames.append(.resetStream(id))
    }

    /// Asks the peer to stop sending (RFC 9000 §3.5). Bytes that still arrive are counted and discarded.
    package func stopSending(_ id: StreamID, code: ApplicationErrorCode) {
        guard isOpen, id != .control, let stream = streams[id.rawValue] else { return }
        let mustSend = updatingUndrained(stream) { $0.receive.discard() }
        if mustSend, stream.stopCode == nil {
            stream.stopCode = code
            controlFrames.append(.stopSending(id))
        }
        removeIfTerminal(stream)
    }

    /// Returns all in-order bytes that have arrived since the last call, or `nil` if there are none.
    package func read(_ id: StreamID) -> ByteBuffer? {
        guard let stream = streams[id.rawValue] else { return nil }
        stream.isReadableReported = false
        return stream.receive.read()
    }

    /// Returns whether every byte up to FIN has been read. Called after ``read(_:)`` has returned `nil`; if it returns
    /// true the receiving side is complete and may be forgotten.
    package func isFinished(_ id: StreamID) -> Bool {
        guard let stream = streams[id.rawValue] else { return false }
        guard stream.receive.isFinished else { return false }
        removeIfTerminal(stream)
        return true
    }

    /// Returns `count` bytes of flow-control credit to the peer: the consumer has drained as many of the bytes it has
    /// read.
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

    /// Returns whether the stream's window may grow. Above the soft limit only a stream whose own consumer keeps up
    /// still grows: it does not fill memory, and a frozen window would let stalled streams throttle it.
    private func mayGrow(_ stream: Stream) -> Bool {
        undrained < configuration.undrainedSoftLimit || stream.receive.undrained <= stream.receive.window / 4
    }

    /// Returns the number of bytes that are written and have never been sent.
    package func unsentBytes(_ id: StreamID) -> Int { streams[id.rawValue]?.send.unsent ?? 0 }

    /// Returns whether any byte of the stream has been sent, also after the tunnel's end. If not, the peer has seen
    /// nothing of this stream.
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

    /// Raises a stream's window from the minimum, which PARAMETERS grant to every stream, to the initial window. Called
    /// when the stream's first packet arrives; no effect while too much lies undrained.
    func widen(_ stream: Stream) {
        guard !stream.wasWidened, !stream.isControl else { return }
        stream.wasWidened = true
        guard undrained < configuration.undrainedSoftLimit else { return }
        if stream.receive.widen(to: configuration.initialStreamWindow) { queueMaxStreamData(stream) }
    }

    /// Returns the stream that a frame of the peer refers to, or `nil` if it was opened and has been forgotten, so that
    /// the frame is ignored. Opens streams of the peer implicitly (RFC 9000 §2.1, §3.2).
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
