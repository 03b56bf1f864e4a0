import DequeModule
import NIOCore

/// The sending half of a stream: the bytes that the application wrote, kept until they are acknowledged (RFC 9000
/// §3.1).
///
/// Think of it as a queue with three marks: acknowledged, sent, written. `TunnelConnection` calls ``write(_:)``,
/// ``finish()`` and ``abandon(code:)`` for the application, ``nextSegment(atMost:connectionCredit:)`` and
/// ``copy(_:into:)`` when it builds a packet, and ``acknowledge(_:fin:)`` or ``markLost(_:fin:)`` when the fate of that
/// packet is known. Offsets and sizes are bytes. Confined to the tunnel's event loop.
struct SendStream {
    private struct Chunk {
        var start: UInt64
        var bytes: ByteBuffer
        var end: UInt64 { start + UInt64(bytes.readableBytes) }
    }

    /// The bytes up to which a stream counts as small, since it last had nothing to send. Small streams are sent before
    /// bulk streams.
    static let smallStreamLimit: UInt64 = 16 << 10

    /// The most unacknowledged bytes that are kept, independent of the window that the peer grants. It bounds the
    /// memory for a peer that acknowledges everything but the oldest bytes.
    static let maxUnacknowledged: UInt64 = 4 << 20

    private var chunks: Deque<Chunk> = []
    /// The offset after the last byte that the application wrote.
    private(set) var written: UInt64 = 0
    /// The offset after the last byte that was sent at least once.
    private(set) var sent: UInt64 = 0
    /// The offset below which every byte is acknowledged.
    private var acknowledgedUpTo: UInt64 = 0
    private var acknowledged = ByteRanges()
    private var lost = ByteRanges()
    /// The peer's MAX_STREAM_DATA.
    private(set) var limit: UInt64
    private(set) var limitReported: UInt64?
    /// The value of `sent` when the stream last had nothing to send.
    private var busySince: UInt64 = 0

    private enum Fin { case none, queued, sent, acknowledged }
    private enum Reset: Equatable { case none, queued, sent, acknowledged }
    private var fin = Fin.none
    private var reset = Reset.none
    private(set) var resetCode = ApplicationErrorCode.noError
    /// Whether a `writable` event is owed because `unsent` rose above the high mark.
    var owesWritable = false

    init(limit: UInt64) { self.limit = limit }

    // MARK: Application

    /// The number of bytes that are written and have never been sent.
    var unsent: Int { Int(written - sent) }
    var isOpenForWriting: Bool { fin == .none && reset == .none }
    var isSmall: Bool { sent - busySince < Self.smallStreamLimit }

    mutating func write(_ bytes: ByteBuffer) {
        if sent == written { busySince = sent }
        chunks.append(Chunk(start: written, bytes: bytes))
        written += UInt64(bytes.readableBytes)
    }

    mutating func finish() { fin = .queued }

    /// Abandons the stream: drops its bytes and queues RESET_STREAM. Returns whether a RESET_STREAM has to be sent;
    /// after everything was acknowledged there is nothing left to abandon.
    mutating func abandon(code: ApplicationErrorCode) -> Bool {
        guard reset == .none, fin != .acknowledged || !isEverythingAcknowledged else { return false }
        reset = .queued
        resetCode = code
        chunks.removeAll()
        lost.removeAll()
        owesWritable = false
        return true
    }

    // MARK: Sending

    /// The offset up to which new bytes may be sent: the lower of the peer's window and our own bound.
    private var allowance: UInt64 { min(limit, acknowledgedUpTo + Self.maxUnacknowledged) }

    /// Whether bytes or a FIN can be sent, as far as this stream's own window is concerned.
    var hasSendable: Bool {
        guard reset == .none else { return false }
        return !lost.isEmpty || sent < min(written, allowance) || (fin == .queued && sent == written)
    }

    /// Whether new bytes alone can be sent. Only new bytes count against MAX_DATA.
    var hasOnlyNewBytes: Bool { lost.isEmpty && !(fin == .queued && sent == written) }

    /// Returns the limit to report in STREAM_DATA_BLOCKED if the stream's window alone blocks it and that limit has not
    /// been reported, else `nil`.
    mutating func popBlockedLimit() -> UInt64? {
        guard reset == .none, sent == limit, written > sent, limitReported != limit else { return nil }
        limitReported = limit
        return limit
    }

    /// The offset of the segment that ``nextSegment(atMost:connectionCredit:)`` would return.
    var nextOffset: UInt64 { lost.first?.lowerBound ?? sent }

    /// The most bytes that the next frame would carry if it had the space.
    var pendingBytes: Int { lost.first?.count ?? Int(min(written, allowance) - min(sent, allowance)) }

    /// The content of one STREAM frame.
    struct Segment {
        var range: Range<UInt64>
        var fin: Bool
        var isRetransmission: Bool
    }

    /// Returns the content of the next STREAM frame: lost bytes first, then new ones. `nil` if there is neither.
    ///
    /// - Parameters:
    ///   - space: The most bytes that fit.
    ///   - connectionCredit: The most new bytes that MAX_DATA allows.
    mutating func nextSegment(atMost space: Int, connectionCredit: UInt64) -> Segment? {
        guard reset == .none else { return nil }
        if let range = lost.popFirst(atMost: UInt64(space)) {
            return Segment(range: range, fin: claimFin(after: range.upperBound), isRetransmission: true)
        }
        let end = min(written, allowance, sent + connectionCredit, sent + UInt64(space))
        guard end > sent || (fin == .queued && sent == written) else { return nil }
        let range = sent..<end
        sent = end
        return Segment(range: range, fin: claimFin(after: end), isRetransmission: false)
    }

    private mutating func claimFin(after end: UInt64) -> Bool {
        guard end == written, sent == written, fin == .queued || fin == .sent else { return false }
        fin = .sent
        return true
    }

    /// Copies bytes that are written and not acknowledged.
    func copy(_ range: Range<UInt64>, into target: UnsafeMutableRawBufferPointer) {
        guard !range.isEmpty else { return }
        var index = indexOfChunk(containing: range.lowerBound)
        var offset = range.lowerBound
        var copied = 0
        while offset < range.upperBound {
            let chunk = chunks[index]
            let from = Int(offset - chunk.start)
            let count = Int(min(range.upperBound, chunk.end) - offset)
            chunk.bytes.withUnsafeReadableBytes { source in
                UnsafeMutableRawBufferPointer(rebasing: target[copied..<(copied + count)])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[from..<(from + count)]))
            }
            copied += count
            offset += UInt64(count)
            index += 1
        }
    }

    private func indexOfChunk(containing offset: UInt64) -> Int {
        var low = 0
        var high = chunks.count
        while low < high {
            let middle = (low + high) / 2
            if chunks[middle].end <= offset { low = middle + 1 } else { high = middle }
        }
        return low
    }

    // MARK: Acknowledgement and loss

    mutating func raise(limit newLimit: UInt64) -> Bool {
        guard newLimit > limit else { return false }
        limit = newLimit
        return true
    }

    mutating func acknowledge(_ range: Range<UInt64>, fin acknowledgedFin: Bool) {
        if acknowledgedFin { fin = .acknowledged }
        guard reset == .none, range.upperBound > acknowledgedUpTo else { return }
        lost.remove(range)
        if range.lowerBound <= acknowledgedUpTo, acknowledged.isEmpty {
            acknowledgedUpTo = range.upperBound
        } else {
            acknowledged.insert(max(range.lowerBound, acknowledgedUpTo)..<range.upperBound)
            if let first = acknowledged.first, first.lowerBound <= acknowledgedUpTo {
                acknowledgedUpTo = first.upperBound
                _ = acknowledged.popFirst(atMost: .max)
            }
        }
        while let first = chunks.first, first.end <= acknowledgedUpTo { chunks.removeFirst() }
    }

    /// Queues the part of a lost range that no other packet has delivered.
    mutating func markLost(_ range: Range<UInt64>, fin lostFin: Bool) {
        guard reset == .none else { return }
        if lostFin, fin == .sent { fin = .queued }
        let missing = max(range.lowerBound, acknowledgedUpTo)..<max(range.upperBound, acknowledgedUpTo)
        guard !missing.isEmpty else { return }
        lost.insert(missing)
        for known in acknowledged.ranges { lost.remove(known) }
    }

    // MARK: RESET_STREAM

    var isResetQueued: Bool { reset == .queued }
    mutating func resetWasSent() { reset = .sent }
    mutating func resetWasLost() { if reset == .sent { reset = .queued } }
    mutating func resetWasAcknowledged() { reset = .acknowledged }

    private var isEverythingAcknowledged: Bool { acknowledgedUpTo == written }

    /// Whether nothing will have to be sent again.
    var isTerminal: Bool {
        reset == .acknowledged || (reset == .none && fin == .acknowledged && isEverythingAcknowledged)
    }
}
