package import NIOCore

/// The waiting time before the next attempt to attach. A value without I/O; the randomness is passed in.
///
/// The first wait after a live tunnel is 0–250 ms. Further waits have full jitter: between 0 and a ceiling that starts
/// at 250 ms and doubles up to 30 s. A gateway that *refuses* (no process listens on the port, which the kernel reports
/// at no cost, or a replica redirects the agent) is retried at least once a second, so that the agent is attached
/// within two seconds of the gateway's start.
package struct Backoff: Sendable {
    package enum Failure: Sendable {
        /// A live tunnel ended.
        case lost
        /// No process listens on the port, or the gateway accepts no agents now.
        case refused
        /// Any other failure: silence, a certificate, a token, a fault.
        case failed
    }

    static let first = TimeAmount.milliseconds(250)
    static let highest = TimeAmount.seconds(30)
    static let highestRefused = TimeAmount.seconds(1)

    private var ceiling = Backoff.first

    package init() {}

    /// Computes the next waiting time and raises the ceiling.
    ///
    /// - Parameters:
    ///   - retryAfter: The time that the gateway asked for, or `nil`. The wait is not shorter; jitter is added, so that
    ///     the agents of a gateway do not return all at once.
    ///   - fraction: A random number, 0 ..< 1.
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
        // Bounded to an hour, so that a hostile number does not overflow.
        return min(retryAfter, .hours(1)) + jitter
    }
}
