extension UnixTime {
    /// A text of RFC 3339, such as `2026-03-01T12:00:00Z` or `2026-03-01T13:00:00.5+01:00`; fractions of a second are
    /// dropped. Nil for anything else, and for times before 1970.
    package init?(rfc3339 text: some StringProtocol) {
        let text = DateText(text)
        guard text.count <= 64, let year = text.number(0..<4), text[4] == UInt8(ascii: "-"),
            let month = text.number(5..<7), text[7] == UInt8(ascii: "-"), let day = text.number(8..<10),
            text[10] == UInt8(ascii: "T") || text[10] == UInt8(ascii: "t"),
            let hour = text.number(11..<13), text[13] == UInt8(ascii: ":"),
            let minute = text.number(14..<16), text[16] == UInt8(ascii: ":"), let second = text.number(17..<19),
            let date = CivilDate(year: year, month: month, day: day),
            let local = Self.seconds(date, hour: hour, minute: minute, second: second)
        else { return nil }
        var position = 19
        if text[position] == UInt8(ascii: ".") {
            let start = position + 1
            position = start
            while text.number(position..<position + 1) != nil { position += 1 }
            guard position > start else { return nil }
        }
        guard let offset = Self.offset(text, at: position), local >= offset else { return nil }
        self.init(seconds: local - offset)
    }

    /// Seconds east of Greenwich; nil if what stands at the end is no zone.
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

    /// `2026-03-01T12:00:00Z`.
    package var rfc3339: String {
        let (date, second) = (civil, secondOfDay)
        let day = "\(DateText.four(date.year))-\(DateText.two(date.month))-\(DateText.two(date.day))"
        let time =
            "\(DateText.two(second / 3_600)):\(DateText.two(second / 60 % 60)):\(DateText.two(second % 60))"
        return "\(day)T\(time)Z"
    }
}
