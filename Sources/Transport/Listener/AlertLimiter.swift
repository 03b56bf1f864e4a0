package import NIOCore

/// A rate limit for the alerts that answer records of unknown sessions: at most one per second for an address and port,
/// and a fixed number in all. The table has a fixed size; two addresses that share a slot share its second.
package struct AlertLimiter {
    package static let interval = TimeAmount.seconds(1)
    /// The most alerts per second to all addresses together, for one loop.
    package static let perSecond = 100

    private static let slotCount = 1_024

    private var lastAnswered: [NIODeadline?] = Array(repeating: nil, count: AlertLimiter.slotCount)
    private var secondBegan = NIODeadline.uptimeNanoseconds(0)
    private var answeredInSecond = 0

    package init() {}

    /// Returns whether an alert to `address` may be sent now, and counts it if so.
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
