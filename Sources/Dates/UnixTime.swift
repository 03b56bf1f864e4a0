/// A time of the wall clock in whole seconds since 1970, UTC. It can be of any clock: what compares two of them has to
/// know that both are of the same one.
///
/// Arithmetic stays between the years 1970 and 9999, so that every value has a text form and none overflows.
package struct UnixTime: Hashable, Comparable, Sendable, CustomStringConvertible {
    package static let earliest = UnixTime(seconds: 0)
    /// The last second of 9999.
    package static let latest = UnixTime(seconds: 253_402_300_799)

    package let seconds: Int64

    /// Values outside the range become its nearest end.
    package init(seconds: Int64) {
        self.seconds = min(max(seconds, 0), 253_402_300_799)
    }

    package static func < (left: UnixTime, right: UnixTime) -> Bool { left.seconds < right.seconds }

    package static func + (time: UnixTime, seconds: Int64) -> UnixTime {
        let (sum, overflow) = time.seconds.addingReportingOverflow(seconds)
        return overflow ? (seconds > 0 ? latest : earliest) : UnixTime(seconds: sum)
    }

    package static func - (time: UnixTime, seconds: Int64) -> UnixTime {
        seconds == .min ? latest : time + -seconds
    }

    /// Seconds between the two.
    package static func - (left: UnixTime, right: UnixTime) -> Int64 { left.seconds - right.seconds }

    package var description: String { rfc3339 }

    var civil: CivilDate { CivilDate(daysSince1970: Int(seconds / 86_400)) }
    var secondOfDay: Int { Int(seconds % 86_400) }

    /// Nil for hours, minutes and seconds that no day has. Second 60, which a leap second has, is the next one.
    static func seconds(_ date: CivilDate, hour: Int, minute: Int, second: Int) -> Int64? {
        guard (0...23).contains(hour), (0...59).contains(minute), (0...60).contains(second) else { return nil }
        return Int64(date.daysSince1970) * 86_400 + Int64(hour * 3_600 + minute * 60 + second)
    }
}
