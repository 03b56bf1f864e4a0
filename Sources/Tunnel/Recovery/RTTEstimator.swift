package import NIOCore

/// The round-trip time of a path (RFC 9002 §5).
package struct RTTEstimator: Sendable {
    package private(set) var latest: TimeAmount
    package private(set) var smoothed: TimeAmount
    package private(set) var variation: TimeAmount
    /// The smallest sample, or `nil` before the first one.
    package private(set) var minimum: TimeAmount?
    package private(set) var firstSample: NIODeadline?

    static let granularity = TimeAmount.milliseconds(1)
    /// The estimate before the first sample. With it the first PTO stays below 300 ms, the peer's acknowledgement delay
    /// included.
    static let initial = TimeAmount.milliseconds(96)

    /// Creates an estimator.
    ///
    /// - Parameter handshake: The round trip of the handshake's last flight, or `nil` if that flight was retransmitted.
    init(handshake: TimeAmount?) {
        let guess = min(max(handshake ?? Self.initial, .microseconds(10)), Self.initial)
        latest = guess
        smoothed = guess
        variation = .nanoseconds(guess.nanoseconds / 2)
    }

    /// Adds a sample. `ackDelay` is the time for which the peer held the acknowledgement back.
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

    /// Returns the probe timeout without back-off (RFC 9002 §6.2.1).
    func probeTimeout(maxAckDelay: TimeAmount) -> TimeAmount {
        smoothed + max(.nanoseconds(4 * variation.nanoseconds), Self.granularity) + maxAckDelay
    }

    /// The time after which an unacknowledged packet counts as lost: 9/8 of the larger of the smoothed and the latest
    /// round trip (RFC 9002 §6.1.2).
    var lossDelay: TimeAmount {
        let base = max(smoothed, latest)
        return max(.nanoseconds(base.nanoseconds * 9 / 8), Self.granularity)
    }
}
