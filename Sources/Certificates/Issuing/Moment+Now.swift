import Dates
import FoundationEssentials
import NIOCore

extension Moment {
    /// Both clocks of this machine.
    package static var now: Moment {
        Moment(uptime: .now(), wall: UnixTime(seconds: Int64(Date().timeIntervalSince1970)))
    }
}
