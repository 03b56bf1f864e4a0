import NIOCore

/// A token bucket that spaces packets (RFC 9002 §7.7). Its depth is the larger of ten packets and one millisecond at
/// the current rate: large enough to justify a system call, small enough not to burden the path.
struct Pacer {
    private var tokens: Double
    private var updatedAt: NIODeadline
    /// The current rate in bytes per second.
    private(set) var rate: Double = 0
    private var maxPacketSize: Int

    init(maxPacketSize: Int, now: NIODeadline) {
        self.maxPacketSize = maxPacketSize
        tokens = Double(10 * maxPacketSize)
        updatedAt = now
    }

    private var depth: Double { max(Double(10 * maxPacketSize), rate / 1_000) }

    mutating func refill(rate: Double, now: NIODeadline) {
        self.rate = rate
        let elapsed = Double((now - updatedAt).nanoseconds) / 1e9
        if elapsed > 0 { tokens += elapsed * rate }
        tokens = min(tokens, depth)
        updatedAt = now
    }

    var allowsPacket: Bool { tokens >= Double(maxPacketSize) }
    /// The number of full packets that may be sent now.
    var packets: Int { max(0, Int(tokens) / maxPacketSize) }

    mutating func spend(_ bytes: Int) { tokens -= Double(bytes) }

    /// The time at which a burst worth sending has accumulated: a quarter of the depth.
    var nextBurst: NIODeadline {
        let wanted = max(Double(maxPacketSize), depth / 4) - tokens
        guard wanted > 0, rate > 0 else { return updatedAt }
        return updatedAt + .nanoseconds(Int64(min(wanted / rate * 1e9, 1e9)) + 1)
    }
}
