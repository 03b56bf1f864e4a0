/// A wall-clock time in whole seconds since 1970-01-01T00:00:00Z.
///
/// A value does not record which clock it came from (this machine's, a CA's): code that compares two values has to know
/// that they come from the same one.
///
/// Arithmetic saturates at the years 1970 and 9999, so that every value has a text form and none overflows.
package struct UnixTime: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// 1970-01-01T00:00:00Z.
    package static let earliest = UnixTime(seconds: 0)
    /// The last second of 9999.
    package static let latest = UnixTime(seconds: 253_402_300_799)

    package let seconds: Int64

    /// Creates a time; a value outside ``earliest``...``latest`` is clamped to it.
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

    /// Adds whole seconds; a fraction of a second is dropped.
    package static func + (time: UnixTime, duration: Duration) -> UnixTime { time + duration.components.seconds }

    /// The number of seconds from `right` to `left`.
    package static func - (left: UnixTime, right: UnixTime) -> Int64 { left.seconds - right.seconds }

    package var description: String { rfc3339 }

    var civil: CivilDate { CivilDate(daysSince1970: Int(seconds / 86_400)) }
    var secondOfDay: Int { Int(seconds % 86_400) }

    /// The seconds since 1970 of a date and a time of day, or `nil` if no day has that time. Second 60, a leap second,
    /// is read as second 0 of the next minute.
    static func seconds(_ date: CivilDate, hour: Int, minute: Int, second: Int) -> Int64? {
        guard (0...23).contains(hour), (0...59).contains(minute), (0...60).contains(second) else { return nil }
        return Int64(date.daysSince1970) * 86_400 + Int64(hour * 3_600 + minute * 60 + second)
    }
}
