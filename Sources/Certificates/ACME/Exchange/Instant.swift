package import Formats
package import NIOCore

/// Now, on both clocks: waits are measured by the one that runs evenly, dates of a CA are compared with the other.
package struct Instant: Equatable, Sendable {
    package let uptime: NIODeadline
    /// As this machine's clock says.
    package let wall: UnixTime

    package init(uptime: NIODeadline, wall: UnixTime) {
        self.uptime = uptime
        self.wall = wall
    }
}
