package import NIOCore

/// How long to wait before the next attempt to attach. A pure value with the randomness passed in.
///
/// The first wait after a live tunnel is 0–250 ms. Then it is full jitter: anything between 0 and a ceiling that starts
/// at 250 ms and doubles up to 30 s. A gateway that *refuses* (nobody listens on the port: the kernel says so, at no
/// cost to anybody; or a replica sends us elsewhere) is asked at least once a second, so that it is served within two
/// seconds of its start.
package struct Backoff: Sendable {
    package enum Failure: Sendable {
        /// A live tunnel ended.
        case lost
        /// Nobody listens there, or it takes no agents now.
        case refused
        /// Everything else: silence, a certificate, a token, a fault.
        case failed
    }

    static let first = TimeAmount.milliseconds(250)
    static let highest = TimeAmount.seconds(30)
    static let highestRefused = TimeAmount.seconds(1)

    private var ceiling = Backoff.first

    package init() {}

    /// - Parameters:
    ///   - retryAfter: What the gateway asked for; the wait is not shorter, and jitter spreads the herd behind it.
    ///   - fraction: Random, 0 ..< 1.
    package mutating func next(after failure: Failure, retryAfter: TimeAmount?, fraction: Double) -> TimeAmount {
        let limit: TimeAmount
        switch failure {
        case .lost:
            ceiling = Self.first
            limit = Self.first
        case .refused:
            limit = min(ceiling, Self.highestRefused)
            ceiling = min(ceiling * 2, Self.highestRefused)
        case .failed:
            limit = ceiling
            ceiling = min(ceiling * 2, Self.highest)
        }
        let jitter = TimeAmount.nanoseconds(Int64(Double(limit.nanoseconds) * fraction))
        guard let retryAfter else { return jitter }
        // An hour is as good as forever; a hostile number must not overflow.
        return min(retryAfter, .hours(1)) + jitter
    }
}
