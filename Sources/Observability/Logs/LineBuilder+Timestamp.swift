import Glibc

extension LineBuilder {
    /// The wall clock now, as RFC 3339 in UTC with milliseconds: `2026-03-01T12:00:00.000Z`.
    mutating func appendTimestamp() {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        self.append(timestamp: now.tv_sec, milliseconds: now.tv_nsec / 1_000_000)
    }

    /// `seconds` since 1970, not negative. By arithmetic, since the C library's conversions take a lock. The calendar counts years from March, so that the
    /// leap day is the last of a year.
    mutating func append(timestamp seconds: Int, milliseconds: Int) {
        let days = seconds / 86_400
        let ofDay = seconds % 86_400
        let shifted = days + 719_468
        let era = shifted / 146_097
        let ofEra = shifted % 146_097
        let yearOfEra = (ofEra - ofEra / 1_460 + ofEra / 36_524 - ofEra / 146_096) / 365
        let ofYear = ofEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let fromMarch = (5 * ofYear + 2) / 153
        let day = ofYear - (153 * fromMarch + 2) / 5 + 1
        let month = fromMarch < 10 ? fromMarch + 3 : fromMarch - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)

        self.append(digits: UInt(year), width: 4)
        self.append(UInt8(ascii: "-"))
        self.append(digits: UInt(month), width: 2)
        self.append(UInt8(ascii: "-"))
        self.append(digits: UInt(day), width: 2)
        self.append(UInt8(ascii: "T"))
        self.append(digits: UInt(ofDay / 3_600), width: 2)
        self.append(UInt8(ascii: ":"))
        self.append(digits: UInt(ofDay / 60 % 60), width: 2)
        self.append(UInt8(ascii: ":"))
        self.append(digits: UInt(ofDay % 60), width: 2)
        self.append(UInt8(ascii: "."))
        self.append(digits: UInt(milliseconds), width: 3)
        self.append(UInt8(ascii: "Z"))
    }
}

/// The form of every time that is shown.
package enum LogTimestamp {
    /// - Parameter seconds: since 1970, not negative.
    package static func text(seconds: Int, milliseconds: Int) -> String {
        var line = LineBuilder(reserving: 24)
        line.append(timestamp: seconds, milliseconds: milliseconds)
        return String(decoding: line.bytes, as: UTF8.self)
    }
}
