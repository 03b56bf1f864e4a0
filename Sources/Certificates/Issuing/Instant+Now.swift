import Formats
import FoundationEssentials
import NIOCore

extension Instant {
    /// Both clocks of this machine.
    package static var now: Instant {
        Instant(uptime: .now(), wall: UnixTime(seconds: Int64(Date().timeIntervalSince1970)))
    }
}
