extension UnixTime {
    /// Reads an RFC 3339 date-time, such as `2026-03-01T12:00:00Z` or `2026-03-01T13:00:00.5+01:00`; `nil` for anything
    /// else and for times before 1970. Fractions of a second are dropped.
    package init?(rfc3339 text: some StringProtocol) {
        let text = DateText(text)
        guard text.count <= 64, let (local, zone) = Self.local(text), let offset = Self.offset(text, at: zone),
            local >= offset
        else { return nil }
        self.init(seconds: local - offset)
    }

    /// Reads an RFC 3339 date-time in UTC whose letters are upper case, such as `2026-03-01T12:00:00Z`; `nil` for
    /// anything else. Fractions of a second are dropped; times before 1970 become ``earliest``.
    package init?(rfc3339UTC text: some StringProtocol) {
        let text = DateText(text)
        guard text.count <= 40, let (seconds, zone) = Self.local(text), text[10] == UInt8(ascii: "T"),
            text[zone] == UInt8(ascii: "Z"), text.count == zone + 1
        else { return nil }
        self.init(seconds: seconds)
    }

    /// Reads the date and the time of day.
    ///
    /// - Returns: The seconds since 1970 as if the zone was UTC, and the position of the zone.
    private static func local(_ text: DateText) -> (seconds: Int64, zone: Int)? {
        guard let year = text.number(0..<4), text[4] == UInt8(ascii: "-"),
            let month = text.number(5..<7), text[7] == UInt8(ascii: "-"), let day = text.number(8..<10),
            text[10] == UInt8(ascii: "T") || text[10] == UInt8(ascii: "t"),
            let hour = text.number(11..<13), text[13] == UInt8(ascii: ":"),
            let minute = text.number(14..<16), text[16] == UInt8(ascii: ":"), let second = text.number(17..<19),
            let date = CivilDate(year: year, month: month, day: day),
            let seconds = seconds(date, hour: hour, minute: minute, second: second)
        else { return nil }
        var position = 19
        if text[position] == UInt8(ascii: ".") {
            let start = position + 1
            position = start
            while text.number(position..<position + 1) != nil { position += 1 }
            guard position > start else { return nil }
        }
        return (seconds, position)
    }

    /// The seconds that the zone at `position` is east of UTC, or `nil` if the text does not end with a zone there.
    private static func offset(_ text: DateText, at position: Int) -> Int64? {
        switch text[position] {
        case UInt8(ascii: "Z"), UInt8(ascii: "z"):
            return text.count == position + 1 ? 0 : nil
        case UInt8(ascii: "+"), UInt8(ascii: "-"):
            guard text.count == position + 6, let hours = text.number(position + 1..<position + 3),
                text[position + 3] == UInt8(ascii: ":"), let minutes = text.number(position + 4..<position + 6),
                hours <= 23, minutes <= 59
            else { return nil }
            let east = Int64(hours * 3_600 + minutes * 60)
            return text[position] == UInt8(ascii: "+") ? east : -east
        default: return nil
        }
    }

    /// The time in UTC, as `2026-03-01T12:00:00Z`.
    package var rfc3339: String {
        let (date, second) = (civil, secondOfDay)
        let day = "\(DateText.four(date.year))-\(DateText.two(date.month))-\(DateText.two(date.day))"
        let time =
            "\(DateText.two(second / 3_600)):\(DateText.two(second / 60 % 60)):\(DateText.two(second % 60))"
        return "\(day)T\(time)Z"
    }
}
