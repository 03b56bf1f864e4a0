import NIOCore

/// The packet numbers that were received and have to be acknowledged, and the time of the next acknowledgement (RFC
/// 9000 §13.2).
struct AckTracker {
    /// The most ranges that are kept, and so the most in one ACK frame. Numbers below the lowest kept range count as
    /// duplicates.
    static let maxRanges = 64
    /// The number of ack-eliciting packets up to which every batch is acknowledged at once, because the peer is in slow
    /// start.
    static let eagerPackets = 100
    static let packetsPerAck = 10

    /// The received packet numbers, ascending and disjoint. Packets normally extend the last range.
    private var ranges: [ClosedRange<UInt64>] = []
    private var floor: UInt64 = 0
    private var largestReceivedAt = NIODeadline.uptimeNanoseconds(0)
    private var elicitingSinceAck = 0
    private var elicitingTotal = 0
    private var mustAckNow = false
    /// The latest time of the next acknowledgement, or `nil` if none is owed.
    private(set) var deadline: NIODeadline?

    var largest: UInt64? { ranges.last?.upperBound }

    /// Records a packet number. Returns whether it is new; `false` is a duplicate.
    mutating func receive(_ number: UInt64, now: NIODeadline) -> Bool {
        guard number >= floor else { return false }
        guard let last = ranges.last else {
            ranges.append(number...number)
            largestReceivedAt = now
            return true
        }
        if number == last.upperBound + 1 {
            ranges[ranges.count - 1] = last.lowerBound...number
            largestReceivedAt = now
            return true
        }
        if number > last.upperBound {
            ranges.append(number...number)
            largestReceivedAt = now
            mustAckNow = true
            forgetOldest()
            return true
        }
        return insert(number)
    }

    /// Records a packet number below the largest. That is reordering, which the peer has to learn at once (RFC 9000
    /// §13.2.1).
    private mutating func insert(_ number: UInt64) -> Bool {
        var index = ranges.count
        while index > 0, ranges[index - 1].lowerBound > number { index -= 1 }
        if index > 0, ranges[index - 1].contains(number) { return false }
        mustAckNow = true
        let joinsLower = index > 0 && ranges[index - 1].upperBound + 1 == number
        let joinsUpper = index < ranges.count && ranges[index].lowerBound == number + 1
        switch (joinsLower, joinsUpper) {
        case (true, true):
            ranges[index - 1] = ranges[index - 1].lowerBound...ranges[index].upperBound
            ranges.remove(at: index)
        case (true, false): ranges[index - 1] = ranges[index - 1].lowerBound...number
        case (false, true): ranges[index] = number...ranges[index].upperBound
        case (false, false):
            ranges.insert(number...number, at: index)
            forgetOldest()
        }
        return true
    }

    private mutating func forgetOldest() {
        while ranges.count > Self.maxRanges {
            floor = ranges[0].upperBound + 1
            ranges.removeFirst()
        }
    }

    /// Records that the packet was ack-eliciting. Called after its frames have been handled.
    mutating func recordAckEliciting(now: NIODeadline, maxAckDelay: TimeAmount) {
        elicitingSinceAck += 1
        elicitingTotal += 1
        if elicitingTotal <= Self.eagerPackets || elicitingSinceAck >= Self.packetsPerAck { mustAckNow = true }
        if deadline == nil { deadline = now + maxAckDelay }
    }

    /// Forgets ranges that the peer knows to be acknowledged: it has received an ACK whose largest number was `largest`
    /// (RFC 9000 §13.2.4).
    mutating func acknowledged(upTo largest: UInt64) {
        while ranges.count > 1, ranges[0].upperBound < largest, ranges[1].lowerBound <= largest {
            floor = ranges[0].upperBound + 1
            ranges.removeFirst()
        }
    }

    /// Returns whether an acknowledgement has to be sent now, even in a packet of its own.
    func isDue(_ now: NIODeadline) -> Bool {
        guard elicitingSinceAck > 0 else { return false }
        return mustAckNow || deadline.map { $0 <= now } ?? false
    }

    /// Whether an ACK frame is worth adding to a packet that is sent anyway.
    var isPending: Bool { elicitingSinceAck > 0 }

    /// Writes an ACK frame with as many ranges as fit. Returns false if the packet has no room for it.
    mutating func write(to writer: inout WireWriter, now: NIODeadline) -> Bool {
        guard let last = ranges.last else { return false }
        let delay = UInt64(max(0, (now - largestReceivedAt).nanoseconds)) / 1_000
        // Type, largest, delay, count and the first range. The other ranges follow as space allows.
        guard writer.remaining >= 1 + 8 + 8 + 2 + 8 else { return false }
        writer.write(varInt: FrameType.ack)
        writer.write(varInt: last.upperBound)
        writer.write(varInt: delay)
        let countAt = writer.count
        writer.write(byte: 0)
        writer.write(varInt: last.upperBound - last.lowerBound)
        var smallest = last.lowerBound
        var written = 0
        var index = ranges.count - 2
        // 63 further ranges keep the count in one byte.
        while index >= 0, written < Self.maxRanges - 1, writer.remaining >= 16 + TunnelParameters.encodedLimit {
            let range = ranges[index]
            writer.write(varInt: smallest - range.upperBound - 2)
            writer.write(varInt: range.upperBound - range.lowerBound)
            smallest = range.lowerBound
            written += 1
            index -= 1
        }
        let end = writer.count
        writer.rewind(to: countAt)
        writer.write(byte: UInt8(written))
        writer.rewind(to: end)
        elicitingSinceAck = 0
        mustAckNow = false
        deadline = nil
        return true
    }
}
