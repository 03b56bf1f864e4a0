package import NIOCore

/// Which records of unknown sessions are answered with a peerGoneIndication: at most one a second an address and port, and only so
/// many in all, in a table of fixed size. Two addresses that meet in one slot share its second.
package struct AlertLimiter {
    package static let interval = TimeAmount.seconds(1)
    /// Answers a second to all addresses together, for one loop.
    package static let perSecond = 100

    private static let slotCount = 1_024

    private var lastAnswered: [NIODeadline?] = Array(repeating: nil, count: AlertLimiter.slotCount)
    private var secondBegan = NIODeadline.uptimeNanoseconds(0)
    private var answeredInSecond = 0

    package init() {}

    package mutating func allows(_ address: UDPAddress, now: NIODeadline) -> Bool {
        if now - secondBegan >= Self.interval {
            secondBegan = now
            answeredInSecond = 0
        }
        guard answeredInSecond < Self.perSecond else { return false }
        let slot = Int(UInt(bitPattern: address.hashValue) % UInt(Self.slotCount))
        if let last = lastAnswered[slot], now - last < Self.interval { return false }
        lastAnswered[slot] = now
        answeredInSecond += 1
        return true
    }
}
