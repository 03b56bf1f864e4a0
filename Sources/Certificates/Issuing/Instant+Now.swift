import Formats
import NIOCore

extension Instant {
    /// Reads the monotonic and the wall clock of this machine.
    package static var now: Instant {
        Instant(uptime: .now(), wall: .now())
    }
}
