import FoundationEssentials

/// A moment of the wall clock, in whole seconds since 1970. Written as RFC 3339 in UTC.
///
/// For what people set and read: when a token was made, until when a replaced secret counts. Nothing that replicas
/// decide among each other depends on it.
package struct WallTime: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// Of a year that is written with four digits.
    static let range = -62_167_219_200...253_402_300_799 as ClosedRange<Int64>

    package let seconds: Int64

    package init(seconds: Int64) {
        self.seconds = min(max(seconds, Self.range.lowerBound), Self.range.upperBound)
    }

    package static func now() -> WallTime { WallTime(seconds: Int64(Date().timeIntervalSince1970)) }

    package static func < (left: WallTime, right: WallTime) -> Bool { left.seconds < right.seconds }

    package static func + (time: WallTime, duration: Duration) -> WallTime {
        WallTime(seconds: time.seconds.addingReportingOverflow(duration.components.seconds).partialValue)
    }

    package var description: String {
        let (day, second) = (Self.floor(seconds, 86_400), Self.remainder(seconds, 86_400))
        // Days are counted from the first of March of the year 0, so that the leap day is the last of its year.
        let shifted = day + 719_468
        let era = Self.floor(shifted, 146_097)
        let dayOfEra = Self.remainder(shifted, 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        let date = "\(Self.padded(year, 4))-\(Self.padded(month, 2))-"
        let dayOfMonth = Self.padded(dayOfYear - (153 * shiftedMonth + 2) / 5 + 1, 2)
        let time = [second / 3_600, second / 60 % 60, second % 60].map { Self.padded($0, 2) }.joined(separator: ":")
        return "\(date)\(dayOfMonth)T\(time)Z"
    }

    /// `2026-01-31T12:00:00Z`: of the forms of RFC 3339 the one in UTC with capital letters, seconds with or without a
    /// fraction, which is dropped.
    package init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count >= 20, bytes.count <= 40, bytes[bytes.count - 1] == UInt8(ascii: "Z") else { return nil }
        for (index, byte) in zip([4, 7, 10, 13, 16], "--T::".utf8) where bytes[index] != byte { return nil }
        func number(_ range: Range<Int>) -> Int64? {
            bytes[range].reduce(Int64?(0)) { value, byte in
                let digit = byte &- UInt8(ascii: "0")
                return digit < 10 ? value.map { $0 * 10 + Int64(digit) } : nil
            }
        }
        guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10),
            let hour = number(11..<13), let minute = number(14..<16), let second = number(17..<19),
            (1...12).contains(month), day >= 1, day <= Self.days(of: month, in: year), hour < 24, minute < 60,
            second <= 60
        else { return nil }
        let fraction = bytes[19..<bytes.count - 1]
        if !fraction.isEmpty {
            guard fraction.first == UInt8(ascii: "."), fraction.count > 1,
                fraction.dropFirst().allSatisfy({ $0 &- UInt8(ascii: "0") < 10 })
            else { return nil }
        }
        let shiftedYear = month <= 2 ? year - 1 : year
        let era = Self.floor(shiftedYear, 400)
        let yearOfEra = shiftedYear - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        let days = era * 146_097 + dayOfEra - 719_468
        self.init(seconds: days * 86_400 + hour * 3_600 + minute * 60 + second)
    }

    private static func days(of month: Int64, in year: Int64) -> Int64 {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    private static func floor(_ value: Int64, _ divisor: Int64) -> Int64 {
        (value - remainder(value, divisor)) / divisor
    }

    private static func remainder(_ value: Int64, _ divisor: Int64) -> Int64 {
        let remainder = value % divisor
        return remainder < 0 ? remainder + divisor : remainder
    }

    private static func padded(_ value: Int64, _ width: Int) -> String {
        let digits = String(value)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
}
