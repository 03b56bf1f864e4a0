import NIOCore

/// The receiving half of a stream: reassembly, final size and flow-control window (RFC 9000 §3.2, §4).
///
/// Think of it as a byte buffer with gaps. `TunnelConnection` calls ``receive(offset:fin:data:newBytes:)`` and
/// ``reset(finalSize:newBytes:)`` for the peer's frames, ``read()``, ``consume(_:)`` and ``discard()`` for the
/// application, and ``nextLimit(now:rtt:mayGrow:maximum:)`` to learn the MAX_STREAM_DATA to send. Offsets and sizes are
/// bytes; errors are violations by the peer and end the tunnel. Confined to the tunnel's event loop.
struct ReceiveStream {
    /// The most chunks that are kept apart by gaps. Beyond it the stream is reset, since each further search would take
    /// longer.
    static let maxGaps = 1_000

    /// The size below which a read is copied out of a larger buffer.
    private static let pinnedBytes = 4 << 10

    /// The memory that a chunk behind a gap costs beyond its bytes.
    private static let chunkOverhead: UInt64 = 128

    private struct Chunk {
        var start: UInt64
        var bytes: ByteBuffer
        var end: UInt64 { start + UInt64(bytes.readableBytes) }
    }

    /// The bytes in order that the application has not read.
    private var ready = ByteBuffer()
    /// The offset after `ready`: the next byte that is missing.
    private var contiguous: UInt64 = 0
    /// The chunks beyond a gap, sorted and disjoint.
    private var early: [Chunk] = []
    /// The highest offset received; flow control counts by it.
    private(set) var highest: UInt64 = 0
    private(set) var finalSize: UInt64?
    /// The bytes for which the consumer has returned credit.
    private(set) var consumed: UInt64 = 0
    /// The MAX_STREAM_DATA that the peer knows, or will know when the queued frame arrives.
    private(set) var limit: UInt64
    /// The size of the flow-control window.
    private(set) var window: UInt64
    private var windowRaisedAt = NIODeadline.uptimeNanoseconds(0)

    private enum Phase { case open, discarding, reset, finished }
    private var phase = Phase.open

    init(window: UInt64) {
        self.window = window
        limit = window
    }

    // MARK: Arrival

    /// The effect of a STREAM frame.
    enum Arrival: Equatable {
        case nothing
        /// In-order bytes or the end can be read.
        case readable
        /// The peer leaves too many gaps, so this stream has to be reset.
        case tooFragmented
    }

    /// Adds the data of a STREAM frame.
    ///
    /// - Parameter newBytes: Set to the number of bytes by which the frame moved the highest offset.
    /// - Throws: `TunnelError` if the frame exceeds the window or contradicts the final size.
    mutating func receive(
        offset: UInt64,
        fin: Bool,
        data: UnsafeRawBufferPointer,
        newBytes: inout UInt64
    ) throws(TunnelError) -> Arrival {
        let end = offset + UInt64(data.count)
        newBytes = try account(end: end, isFinal: fin)
        guard phase == .open else {
            if phase == .discarding { consumed = highest }
            return .nothing
        }
        let before = contiguous
        if offset <= contiguous {
            if end > contiguous {
                append(UnsafeRawBufferPointer(rebasing: data[Int(contiguous - offset)...]))
                joinEarly()
            }
        } else if !data.isEmpty {
            insertEarly(offset, data)
            if early.count > Self.maxGaps { return .tooFragmented }
        }
        return contiguous > before || (fin && contiguous == finalSize) ? .readable : .nothing
    }

    /// Checks an end offset against the window and the final size, which never changes and which no byte exceeds (RFC
    /// 9000 §4.5). Returns the number of new bytes.
    private mutating func account(end: UInt64, isFinal: Bool) throws(TunnelError) -> UInt64 {
        if let size = finalSize {
            guard end <= size, !isFinal || end == size else {
                throw TunnelError(.finalSize, "the final size was \(size), now \(end)")
            }
        } else if isFinal {
            guard end >= highest else {
                throw TunnelError(.finalSize, "final size \(end) is below \(highest), which was sent already")
            }
            finalSize = end
        }
        guard end > highest else { return 0 }
        guard end <= limit else {
            throw TunnelError(.flowControl, "\(end) bytes sent on a stream, \(limit) allowed")
        }
        defer { highest = end }
        return end - highest
    }

    private mutating func append(_ data: UnsafeRawBufferPointer) {
        if ready.capacity == 0 {
            // A long body is read in large pieces. A short one should not hold more memory than it needs.
            ready = ByteBufferAllocator().buffer(capacity: contiguous > 16 << 10 ? 32 << 10 : data.count)
        }
        ready.writeBytes(data)
        contiguous += UInt64(data.count)
    }

    private mutating func joinEarly() {
        var taken = 0
        while taken < early.count, early[taken].start <= contiguous {
            if early[taken].end > contiguous {
                let skip = Int(contiguous - early[taken].start)
                _ = early[taken].bytes.withUnsafeReadableBytes { bytes in
                    ready.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[skip...]))
                }
                contiguous = early[taken].end
            }
            taken += 1
        }
        if taken > 0 { early.removeFirst(taken) }
    }

    /// Inserts data beyond a gap, keeping only bytes that have not arrived before.
    private mutating func insertEarly(_ offset: UInt64, _ data: UnsafeRawBufferPointer) {
        let end = offset + UInt64(data.count)
        var start = offset
        var index = early.count
        while index > 0, early[index - 1].end > offset { index -= 1 }
        while start < end {
            if index < early.count, early[index].start <= start {
                start = max(start, early[index].end)
                index += 1
                continue
            }
            let stop = index < early.count ? min(end, early[index].start) : end
            let piece = UnsafeRawBufferPointer(rebasing: data[Int(start - offset)..<Int(stop - offset)])
            if index > 0, early[index - 1].end == start {
                early[index - 1].bytes.writeBytes(piece)
            } else {
                var bytes = ByteBufferAllocator().buffer(capacity: piece.count)
                bytes.writeBytes(piece)
                early.insert(Chunk(start: start, bytes: bytes), at: index)
                index += 1
            }
            start = stop
        }
    }

    // MARK: Reading

    /// Returns all bytes in order that have not been read, or `nil` if there are none.
    mutating func read() -> ByteBuffer? {
        guard phase == .open, ready.readableBytes > 0 else {
            finishIfAllWasRead()
            return nil
        }
        var taken = ByteBuffer()
        if ready.readableBytes < Self.pinnedBytes, ready.capacity > 4 * ready.readableBytes {
            // A large buffer is not handed out for a few bytes: its new owner may hold it for long.
            taken = ByteBufferAllocator().buffer(capacity: ready.readableBytes)
            taken.writeImmutableBuffer(ready)
            ready.clear()
        } else {
            swap(&taken, &ready)
        }
        finishIfAllWasRead()
        return taken
    }

    private mutating func finishIfAllWasRead() {
        if phase == .open, contiguous == finalSize, ready.readableBytes == 0 { phase = .finished }
    }

    /// Whether every byte up to FIN has been read.
    var isFinished: Bool { phase == .finished }

    /// The bytes received for which no credit has been returned; the memory limits count them.
    var undrained: UInt64 { highest - min(consumed, highest) }

    /// ``undrained`` plus the overhead of chunks behind gaps: a byte that is kept apart needs a buffer for itself
    /// alone.
    var footprint: UInt64 { undrained + UInt64(early.count) * Self.chunkOverhead }

    /// Records that the application has drained `count` bytes.
    mutating func consume(_ count: UInt64) { consumed = min(consumed + count, highest) }

    // MARK: Window

    /// Returns a new MAX_STREAM_DATA once half the window has been drained, else `nil`. The window doubles while the
    /// consumer keeps up, which means that it drains half of it in less than two round trips (as QUIC implementations
    /// do; RFC 9000 leaves it open).
    mutating func nextLimit(now: NIODeadline, rtt: TimeAmount, mayGrow: Bool, maximum: UInt64) -> UInt64? {
        guard phase == .open, finalSize == nil else { return nil }
        let wanted = consumed + window
        guard wanted > limit, wanted - limit >= window / 2 else { return nil }
        if mayGrow, window < maximum, now - windowRaisedAt < rtt * 2 { window = min(window * 2, maximum) }
        windowRaisedAt = now
        limit = consumed + window
        return limit
    }

    /// Widens the window at once. Returns whether the peer's limit has changed.
    mutating func widen(to newWindow: UInt64) -> Bool {
        guard phase == .open, finalSize == nil, newWindow > window else { return false }
        window = newWindow
        limit = max(limit, consumed + newWindow)
        return true
    }

    // MARK: Ending

    /// Handles RESET_STREAM and returns whether it takes effect. It is ignored only when FIN and every byte before it
    /// have arrived: without FIN the bytes are a truncated body, however many of them there are.
    mutating func reset(finalSize size: UInt64, newBytes: inout UInt64) throws(TunnelError) -> Bool {
        let isComplete = contiguous == finalSize
        newBytes = try account(end: size, isFinal: true)
        switch phase {
        case .reset, .finished: return false
        case .open where isComplete: return false
        case .open, .discarding:
            let wasOpen = phase == .open
            phase = .reset
            drop()
            return wasOpen
        }
    }

    /// Discards the received bytes after STOP_SENDING; bytes that still arrive are counted only. Returns whether there
    /// is something to stop.
    mutating func discard() -> Bool {
        guard phase == .open else { return false }
        let isComplete = contiguous == finalSize
        phase = isComplete ? .finished : .discarding
        drop()
        return !isComplete
    }

    private mutating func drop() {
        ready = ByteBuffer()
        early = []
        consumed = highest
    }

    /// Whether no further frame of the peer can change this half.
    var isTerminal: Bool {
        switch phase {
        case .finished, .reset: true
        case .discarding: finalSize != nil && highest == finalSize
        case .open: false
        }
    }
}
