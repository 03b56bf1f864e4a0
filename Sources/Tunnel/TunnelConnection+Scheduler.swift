import NIOCore

/// Selection of the next stream to send: the control stream first, then small and new streams in order of arrival, then
/// bulk streams in turn with a quantum of one burst each. A short response therefore never waits behind a long
/// download.
extension TunnelConnection {
    /// The bytes that a bulk stream may send before the next bulk stream's turn: one GSO burst.
    private static let quantum = 64 << 10
    /// The fewest bytes of a STREAM frame that does not complete its stream's data. A smaller hole in a packet is
    /// padded.
    private static let minimumFragment = 64

    var hasSendableStreams: Bool {
        control.isQueued || !smallStreams.isEmpty || !bulkStreams.isEmpty
    }

    /// Puts a stream that has something to send into its queue.
    func enqueue(_ stream: Stream) {
        guard !stream.isQueued else { return }
        if stream.send.hasSendable {
            place(stream)
        } else if let limit = stream.send.popBlockedLimit() {
            controlFrames.append(.streamDataBlocked(stream.id, limit))
        }
    }

    private func place(_ stream: Stream) {
        stream.isQueued = true
        if stream.isControl { return }
        if stream.send.isSmall {
            smallStreams.append(stream)
        } else {
            stream.quantum = Self.quantum
            bulkStreams.append(stream)
        }
    }

    /// Queues the parked streams again after MAX_DATA has risen.
    func resumeStreamsAwaitingData() {
        guard peerDataLimit > dataSent else { return }
        let waiting = streamsAwaitingData
        streamsAwaitingData.removeAll(keepingCapacity: true)
        for stream in waiting {
            stream.isQueued = false
            stream.isParked = false
            if streams[stream.id.rawValue] != nil { enqueue(stream) }
        }
    }

    /// Writes STREAM frames into a packet. Returns whether space ran out before the streams did.
    func writeStreamFrames(_ writer: inout WireWriter) -> Bool {
        while let stream = nextStream() {
            let credit = stream.isControl ? UInt64.max >> 2 : peerDataLimit - min(dataSent, peerDataLimit)
            if credit == 0, stream.send.hasOnlyNewBytes {
                awaitData(stream)
                continue
            }
            let offset = stream.send.nextOffset
            let header =
                1 + VarInt.length(stream.id.rawValue) + (offset > 0 ? VarInt.length(offset) : 0) + 2
            let space = writer.remaining - header
            guard space >= min(Self.minimumFragment, stream.send.pendingBytes), space >= 0 else { return true }
            guard let segment = stream.send.nextSegment(atMost: space, connectionCredit: credit) else {
                leaveQueue(stream)
                continue
            }
            write(segment, of: stream, &writer)
            settle(stream, sentBytes: segment.range.count)
        }
        return false
    }

    private func nextStream() -> Stream? {
        if control.isQueued { return control }
        return smallStreams.first ?? bulkStreams.first
    }

    private func write(_ segment: SendStream.Segment, of stream: Stream, _ writer: inout WireWriter) {
        let range = segment.range
        writer.write(
            varInt: FrameType.stream | 2 | (range.lowerBound > 0 ? 4 : 0) | (segment.fin ? 1 : 0)
        )
        writer.write(varInt: stream.id.rawValue)
        if range.lowerBound > 0 { writer.write(varInt: range.lowerBound) }
        writer.write(twoByteVarInt: UInt64(range.count))
        stream.send.copy(range, into: writer.reserve(range.count))
        sent.append(frame: .stream(stream.id, range, fin: segment.fin))
        if segment.isRetransmission {
            counters.retransmittedBytes += UInt64(range.count)
        } else {
            counters.streamBytesSent += UInt64(range.count)
            if !stream.isControl { dataSent += UInt64(range.count) }
        }
    }

    /// Moves a stream to its place in the queues after it has sent a segment.
    private func settle(_ stream: Stream, sentBytes: Int) {
        if stream.send.owesWritable, stream.send.unsent <= configuration.unsentLowMark {
            stream.send.owesWritable = false
            events.append(.writable(stream.id))
        }
        stream.quantum -= sentBytes
        if !stream.send.hasSendable {
            leaveQueue(stream)
        } else if stream.isControl {
            return
        } else if smallStreams.first === stream {
            guard !stream.send.isSmall else { return }
            smallStreams.removeFirst()
            place(stream)
        } else if stream.quantum <= 0, bulkStreams.first === stream {
            bulkStreams.removeFirst()
            place(stream)
        }
    }

    private func removeFromFront(_ stream: Stream) {
        if stream.isControl { return }
        if smallStreams.first === stream { smallStreams.removeFirst() } else { bulkStreams.removeFirst() }
    }

    private func leaveQueue(_ stream: Stream) {
        removeFromFront(stream)
        stream.isQueued = false
        if let limit = stream.send.popBlockedLimit() {
            controlFrames.append(.streamDataBlocked(stream.id, limit))
        }
    }

    /// Parks a stream until MAX_DATA rises. It stays marked as queued, so that it is not queued twice.
    private func awaitData(_ stream: Stream) {
        guard stream.send.hasSendable else { return leaveQueue(stream) }
        removeFromFront(stream)
        stream.isParked = true
        streamsAwaitingData.append(stream)
        if dataBlockedReported != peerDataLimit {
            dataBlockedReported = peerDataLimit
            controlFrames.append(.dataBlocked(peerDataLimit))
        }
    }

    /// Queues a stream that has lost bytes. Lost bytes need no new credit, so a parked stream leaves the parking place
    /// for its queue.
    func enqueueRetransmission(_ stream: Stream) {
        if stream.isParked {
            streamsAwaitingData.removeAll { $0 === stream }
            stream.isParked = false
            stream.isQueued = false
        }
        enqueue(stream)
    }
}
