import NIOCore

/// Which stream goes next: control, then small and new streams in the order they came, then bulk streams in turn with
/// a quantum of one burst each. So a short response never waits behind a long download.
extension TunnelConnection {
    /// Bytes a bulk stream may send before the next one's turn: one GSO burst.
    private static let quantum = 64 << 10
    /// A STREAM frame carries at least so much, or the rest of its stream; a smaller hole is padded.
    private static let minimumFragment = 64

    var hasSendableStreams: Bool {
        control.isQueued || !smallStreams.isEmpty || !bulkStreams.isEmpty
    }

    /// Puts a stream with something to send into its queue.
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

    /// MAX_DATA rose.
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

    /// True if space ended before the streams did.
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

    /// Where a stream stands after it sent something.
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

    /// Parks a stream until MAX_DATA rises. It stays marked as queued, so that nothing queues it twice.
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

    /// Lost bytes need no new credit: a parked stream that has some goes back into its queue.
    func enqueueRetransmission(_ stream: Stream) {
        if stream.isParked {
            streamsAwaitingData.removeAll { $0 === stream }
            stream.isParked = false
            stream.isQueued = false
        }
        enqueue(stream)
    }
}
