import NIOCore

/// What was received and has to be acknowledged, and when (RFC 9000 §13.2).
struct AckTracker {
    /// Ranges in one ACK frame, and kept at all; numbers below the lowest kept range count as duplicates.
    static let maxRanges = 64
    /// Until so many ack-eliciting packets have come, every batch is acknowledged: the peer is in slow start.
    static let eagerPackets = 100
    static let packetsPerAck = 10

    /// Ascending and disjoint; the last is where packets normally arrive.
    private var ranges: [ClosedRange<UInt64>] = []
    private var floor: UInt64 = 0
    private var largestReceivedAt = NIODeadline.uptimeNanoseconds(0)
    private var elicitingSinceAck = 0
    private var elicitingTotal = 0
    private var mustAckNow = false
    private(set) var deadline: NIODeadline?

    var largest: UInt64? { ranges.last?.upperBound }

    /// False for a duplicate.
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

    /// A packet below the largest: reordering, so the peer hears of it at once.
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

    /// Called after a packet's frames were handled.
    mutating func recordAckEliciting(now: NIODeadline, maxAckDelay: TimeAmount) {
        elicitingSinceAck += 1
        elicitingTotal += 1
        if elicitingTotal <= Self.eagerPackets || elicitingSinceAck >= Self.packetsPerAck { mustAckNow = true }
        if deadline == nil { deadline = now + maxAckDelay }
    }

    /// The peer has seen an ACK whose largest was `largest`: ranges below need not be repeated (RFC 9000 §13.2.4).
    mutating func acknowledged(upTo largest: UInt64) {
        while ranges.count > 1, ranges[0].upperBound < largest, ranges[1].lowerBound <= largest {
            floor = ranges[0].upperBound + 1
            ranges.removeFirst()
        }
    }

    func isDue(_ now: NIODeadline) -> Bool {
        guard elicitingSinceAck > 0 else { return false }
        return mustAckNow || deadline.map { $0 <= now } ?? false
    }

    /// Worth adding to a packet that goes anyway.
    var isPending: Bool { elicitingSinceAck > 0 }

    mutating func write(to writer: inout WireWriter, now: NIODeadline) -> Bool {
        guard let last = ranges.last else { return false }
        let delay = UInt64(max(0, (now - largestReceivedAt).nanoseconds)) / 1_000
        // type, largest, delay and count, and the first range: the rest follows as space allows.
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
        // 63 more ranges keep the count in one byte.
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
