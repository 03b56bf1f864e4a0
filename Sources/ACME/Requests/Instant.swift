package import Formats
package import NIOCore

/// The current time on both clocks: waits are measured on the monotonic one, dates of a CA are compared with the wall
/// clock.
package struct Instant: Equatable, Sendable {
    package let uptime: NIODeadline
    /// The wall clock of this machine.
    package let wall: UnixTime

    package init(uptime: NIODeadline, wall: UnixTime) {
        self.uptime = uptime
        self.wall = wall
    }
}

/// The difference between this machine's clock and a CA's, from the `Date` fields of its responses. Stored times
/// (back-off, holds, renewal) are by the CA's clock, so that replicas with different clocks agree.
package struct ClockSkew: Equatable, Sendable {
    /// The number of seconds to add to this machine's clock; 0 until the CA has responded.
    package private(set) var offset: Int64 = 0

    package init() {}

    /// The difference in seconds that is ignored, because dates are whole seconds and responses take time.
    private static let tolerance: Int64 = 2

    /// Records the date of a response.
    ///
    /// - Parameters:
    ///   - date: The CA's clock when it sent the response.
    ///   - wall: This machine's clock when the response was received.
    package mutating func update(date: UnixTime, wall: UnixTime) {
        let seen = date - wall
        if abs(seen - offset) > Self.tolerance { offset = abs(seen) > Self.tolerance ? seen : 0 }
    }

    package func serverTime(at wall: UnixTime) -> UnixTime { wall + offset }
}
