extension UnixTime {
    private static let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    /// Reads an IMF-fixdate (RFC 9110 §5.6.7), such as `Sun, 06 Nov 1994 08:49:37 GMT`; `nil` for anything else and for
    /// times before 1970. The name of a weekday is required, but not checked against the date.
    package init?(httpDate text: some StringProtocol) {
        let text = DateText(text)
        guard text.count == 29, let weekday = text.text(0..<3), Self.days.contains(weekday), text.text(3..<5) == ", ",
            let day = text.number(5..<7), text[7] == UInt8(ascii: " "),
            let name = text.text(8..<11), let month = Self.months.firstIndex(of: name), text[11] == UInt8(ascii: " "),
            let year = text.number(12..<16), text[16] == UInt8(ascii: " "),
            let hour = text.number(17..<19), text[19] == UInt8(ascii: ":"),
            let minute = text.number(20..<22), text[22] == UInt8(ascii: ":"),
            let second = text.number(23..<25), text.text(25..<29) == " GMT",
            let date = CivilDate(year: year, month: month + 1, day: day),
            let seconds = Self.seconds(date, hour: hour, minute: minute, second: second), seconds >= 0
        else { return nil }
        self.init(seconds: seconds)
    }

    /// The time as an IMF-fixdate (RFC 9110 §5.6.7).
    package var httpDate: String {
        let (date, second) = (civil, secondOfDay)
        // 1970-01-01 was a Thursday.
        let weekday = Self.days[Int((seconds / 86_400 + 4) % 7)]
        let time =
            "\(DateText.two(second / 3_600)):\(DateText.two(second / 60 % 60)):\(DateText.two(second % 60))"
        let day = "\(DateText.two(date.day)) \(Self.months[date.month - 1]) \(DateText.four(date.year))"
        return "\(weekday), \(day) \(time) GMT"
    }
}
