import Formats
import Glibc

extension LineBuilder {
    /// Appends the current time as RFC 3339 in UTC with milliseconds: `2026-03-01T12:00:00.000Z`.
    mutating func appendTimestamp() {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        append(timestamp: now.tv_sec, milliseconds: now.tv_nsec / 1_000_000)
    }

    /// Appends a time.
    ///
    /// - Parameter seconds: The seconds since 1970, not negative.
    mutating func append(timestamp seconds: Int, milliseconds: Int) {
        let date = CivilDate(daysSince1970: seconds / 86_400)
        let ofDay = seconds % 86_400

        append(digits: UInt(date.year), width: 4)
        append(UInt8(ascii: "-"))
        append(digits: UInt(date.month), width: 2)
        append(UInt8(ascii: "-"))
        append(digits: UInt(date.day), width: 2)
        append(UInt8(ascii: "T"))
        append(digits: UInt(ofDay / 3_600), width: 2)
        append(UInt8(ascii: ":"))
        append(digits: UInt(ofDay / 60 % 60), width: 2)
        append(UInt8(ascii: ":"))
        append(digits: UInt(ofDay % 60), width: 2)
        append(UInt8(ascii: "."))
        append(digits: UInt(milliseconds), width: 3)
        append(UInt8(ascii: "Z"))
    }
}

/// The format of all times that are shown to operators.
package enum LogTimestamp {
    /// A time as RFC 3339 in UTC with milliseconds.
    ///
    /// - Parameter seconds: The seconds since 1970, not negative.
    package static func text(seconds: Int, milliseconds: Int) -> String {
        var line = LineBuilder(reserving: 24)
        line.append(timestamp: seconds, milliseconds: milliseconds)
        return String(decoding: line.bytes, as: UTF8.self)
    }
}
