package import NIOCore

/// The conditions of a one-way path: loss, delay, reordering, corruption and rate.
package struct LinkConditions: Sendable {
    package var loss = 0.0
    package var duplication = 0.0
    /// The probability that a datagram is held back by up to `reorderingDelay`.
    package var reordering = 0.0
    package var reorderingDelay = TimeAmount.milliseconds(5)
    /// The probability that one bit is flipped.
    package var corruption = 0.0
    package var delay = TimeAmount.milliseconds(1)
    /// The rate in bytes per second, or `nil` if it is unlimited.
    package var rate: Double?
    /// The bytes that may wait for the rate; more are dropped at the tail.
    package var queue = 128 << 10
    /// The times during which nothing passes.
    package var blackouts: [Range<NIODeadline>] = []

    package init() {}
}

/// One direction of a network in virtual time.
package final class SimulatedLink {
    package var conditions: LinkConditions
    private var generator: SeededGenerator
    private var inFlight: [(arrival: NIODeadline, order: UInt64, bytes: [UInt8])] = []
    private var busyUntil = NIODeadline.uptimeNanoseconds(0)
    private var order: UInt64 = 0
    package private(set) var carried = 0
    package private(set) var lost = 0

    package init(conditions: LinkConditions, seed: UInt64) {
        self.conditions = conditions
        generator = SeededGenerator(seed: seed)
    }

    package func send(_ bytes: [UInt8], now: NIODeadline) {
        var leaves = now
        if let rate = conditions.rate {
            busyUntil = max(busyUntil, now)
            let waiting = Double((busyUntil - now).nanoseconds) / 1e9 * rate
            guard waiting + Double(bytes.count) <= Double(conditions.queue) else {
                lost += 1
                return
            }
            busyUntil = busyUntil + .nanoseconds(Int64(Double(bytes.count) / rate * 1e9))
            leaves = busyUntil
        }
        if generator.chance(conditions.loss) || conditions.blackouts.contains(where: { $0.contains(leaves) }) {
            lost += 1
            return
        }
        schedule(bytes, leaves)
        if generator.chance(conditions.duplication) { schedule(bytes, leaves) }
    }

    private func schedule(_ original: [UInt8], _ leaves: NIODeadline) {
        var bytes = original
        if generator.chance(conditions.corruption), !bytes.isEmpty {
            let index = Int.random(in: 0..<bytes.count, using: &generator)
            bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        }
        var arrival = leaves + conditions.delay
        if generator.chance(conditions.reordering) {
            arrival =
                arrival + .nanoseconds(Int64.random(in: 0...conditions.reorderingDelay.nanoseconds, using: &generator))
        }
        order += 1
        // Kept sorted, the next arrival last: insertion is near the front only when the path reorders.
        var index = inFlight.count
        while index > 0, (inFlight[index - 1].arrival, inFlight[index - 1].order) < (arrival, order) { index -= 1 }
        inFlight.insert((arrival, order, bytes), at: index)
    }

    package var nextArrival: NIODeadline? { inFlight.last?.arrival }

    /// Returns the next datagram that has arrived by `now`, or `nil` if there is none.
    package func receive(now: NIODeadline) -> [UInt8]? {
        guard let last = inFlight.last, last.arrival <= now else { return nil }
        inFlight.removeLast()
        carried += 1
        return last.bytes
    }
}
