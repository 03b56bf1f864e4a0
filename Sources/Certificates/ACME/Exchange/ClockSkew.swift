package import Formats

/// How far this machine's clock is from a CA's, as the `Date` header of its answers says. Times that are kept
/// (back-off, rate limits, renewal) are of the CA's clock, so that replicas agree whose own clocks differ.
package struct ClockSkew: Equatable, Sendable {
    /// Seconds to be added to this machine's clock; 0 until a CA has answered.
    package private(set) var offset: Int64 = 0

    package init() {}

    /// A whole second and the way of an answer make no difference.
    private static let tolerance: Int64 = 2

    /// - Parameters:
    ///   - date: the CA's clock when it answered.
    ///   - wall: this machine's clock when the answer was there.
    package mutating func learn(date: UnixTime, wall: UnixTime) {
        let seen = date - wall
        if abs(seen - offset) > Self.tolerance { offset = abs(seen) > Self.tolerance ? seen : 0 }
    }

    package func now(_ wall: UnixTime) -> UnixTime { wall + offset }
}
