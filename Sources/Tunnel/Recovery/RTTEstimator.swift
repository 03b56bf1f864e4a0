package import NIOCore

/// Round-trip time, RFC 9002 §5.
package struct RTTEstimator: Sendable {
    package private(set) var latest: TimeAmount
    package private(set) var smoothed: TimeAmount
    package private(set) var variation: TimeAmount
    /// The smallest seen; nil before the first sample.
    package private(set) var minimum: TimeAmount?
    package private(set) var firstSample: NIODeadline?

    static let granularity = TimeAmount.milliseconds(1)
    /// Until something was measured; with it the first PTO stays below 300 ms, the peer's ack delay included.
    static let initial = TimeAmount.milliseconds(96)

    /// `handshake`: the round trip of the handshake's last flight, if it was not retransmitted.
    init(handshake: TimeAmount?) {
        let guess = min(max(handshake ?? Self.initial, .microseconds(10)), Self.initial)
        latest = guess
        smoothed = guess
        variation = .nanoseconds(guess.nanoseconds / 2)
    }

    mutating func sample(_ measured: TimeAmount, ackDelay: TimeAmount, now: NIODeadline) {
        latest = max(measured, .nanoseconds(1))
        guard let known = minimum else {
            minimum = latest
            smoothed = latest
            variation = .nanoseconds(latest.nanoseconds / 2)
            firstSample = now
            return
        }
        let minimum = min(known, latest)
        self.minimum = minimum
        let adjusted = latest.nanoseconds >= minimum.nanoseconds + ackDelay.nanoseconds ? latest - ackDelay : latest
        let difference = abs(smoothed.nanoseconds - adjusted.nanoseconds)
        variation = .nanoseconds((3 * variation.nanoseconds + difference) / 4)
        smoothed = .nanoseconds((7 * smoothed.nanoseconds + adjusted.nanoseconds) / 8)
    }

    /// Without the back-off: RFC 9002 §6.2.1.
    func probeTimeout(maxAckDelay: TimeAmount) -> TimeAmount {
        smoothed + max(.nanoseconds(4 * variation.nanoseconds), Self.granularity) + maxAckDelay
    }

    /// 9/8 of the larger of the smoothed and the latest: RFC 9002 §6.1.2.
    var lossDelay: TimeAmount {
        let base = max(smoothed, latest)
        return max(.nanoseconds(base.nanoseconds * 9 / 8), Self.granularity)
    }
}
