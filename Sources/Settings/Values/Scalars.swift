package import Formats

/// The parsers of single values. Each takes the text as written and throws an error that quotes it.
package enum Scalars {
    /// Parses any non-empty text on one line.
    package static func string(_ text: String) throws(FormatError) -> String {
        guard !text.isEmpty else { throw FormatError("is empty", "Give a value or remove the key.") }
        guard text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F }) else {
            throw FormatError("\(quoted(text)) holds a line break or control character", "Write it on one line.")
        }
        return text
    }

    package static func bool(_ text: String) throws(FormatError) -> Bool {
        switch text.lowercased() {
        case "true": true
        case "false": false
        default: throw FormatError("\(quoted(text)) is neither true nor false", "Write true or false.")
        }
    }

    package static func int(_ text: String, in range: ClosedRange<Int>) throws(FormatError) -> Int {
        let remedy = "Write a whole number from \(range.lowerBound) to \(range.upperBound)."
        let digits = text.utf8.first == 0x2D ? text.utf8.dropFirst() : text.utf8[...]
        guard !digits.isEmpty, digits.allSatisfy({ (0x30...0x39).contains($0) }) else {
            throw FormatError("\(quoted(text)) is not a whole number", remedy)
        }
        // The text has digits only, so `nil` means that it has too many of them.
        guard let value = Int(text), range.contains(value) else {
            throw FormatError("\(quoted(text)) is out of range", remedy)
        }
        return value
    }

    /// Parses `250ms`, `10s`, `5m`, `1h30m` or `7d`: whole numbers, each with its unit, largest unit first.
    package static func duration(_ text: String, in range: ClosedRange<Duration>) throws(FormatError) -> Duration {
        let remedy = "Write a number and its unit (ms, s, m, h, d), as in 250ms, 10s or 1h30m."
        guard text.utf8.contains(where: { !(0x30...0x39).contains($0) }) else {
            throw FormatError("\(quoted(text)) has no unit", remedy)
        }
        let units: [(name: String, milliseconds: Int)] = [
            ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1),
        ]
        var rest = text[...]
        var previous = -1
        var total = 0
        while !rest.isEmpty {
            let digits = rest.prefix { ("0"..."9").contains($0) }
            rest = rest.dropFirst(digits.count)
            let letters = rest.prefix { !("0"..."9").contains($0) }
            rest = rest.dropFirst(letters.count)
            guard let number = Int(digits), let unit = units.firstIndex(where: { $0.name == letters }), unit > previous
            else { throw FormatError("\(quoted(text)) is not a duration", remedy) }
            previous = unit
            let (product, overflow) = number.multipliedReportingOverflow(by: units[unit].milliseconds)
            let (sum, carried) = total.addingReportingOverflow(product)
            guard !overflow, !carried else { throw FormatError("\(quoted(text)) is too long", remedy) }
            total = sum
        }
        let value = Duration.milliseconds(total)
        guard range.contains(value) else {
            throw FormatError(
                "\(quoted(text)) is out of range",
                "Write a duration from \(format(range.lowerBound)) to \(format(range.upperBound))."
            )
        }
        return value
    }

    /// Formats a duration in the form that ``duration(_:in:)`` parses. Fractions of a millisecond are dropped; settings
    /// have none.
    package static func format(_ duration: Duration) -> String {
        let (seconds, attoseconds) = duration.components
        var milliseconds = seconds * 1000 + attoseconds / 1_000_000_000_000_000
        if milliseconds == 0 { return "0s" }
        var result = ""
        for (name, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            let (count, rest) = milliseconds.quotientAndRemainder(dividingBy: Int64(size))
            if count > 0 { result += "\(count)\(name)" }
            milliseconds = rest
        }
        return result
    }

    /// Parses a number of bytes such as `512B`, `64KiB` or `10MB`, with powers of 1024 (KiB, MiB, GiB) or of 1000 (KB,
    /// MB, GB).
    package static func size(_ text: String, in range: ClosedRange<Int>) throws(FormatError) -> Int {
        let remedy = "Write a number and its unit (B, KiB, MiB, GiB, KB, MB, GB), as in 64KiB."
        let units = [
            "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 1000, "mb": 1_000_000, "gb": 1_000_000_000,
        ]
        let digits = text.prefix { ("0"..."9").contains($0) }
        let unit = text.dropFirst(digits.count).lowercased()
        guard !unit.isEmpty else { throw FormatError("\(quoted(text)) has no unit", remedy) }
        guard let number = Int(digits), let factor = units[unit] else {
            throw FormatError("\(quoted(text)) is not a size", remedy)
        }
        let (value, overflow) = number.multipliedReportingOverflow(by: factor)
        guard !overflow, range.contains(value) else {
            throw FormatError(
                "\(quoted(text)) is out of range",
                "Write a size from \(range.lowerBound)B to \(range.upperBound)B."
            )
        }
        return value
    }

    /// Parses the name of a service, a token or an agent, which is used in logs, metrics, file names and `to:
    /// NAME/SERVICE`.
    package static func name(_ text: String, longest: Int = 63) throws(FormatError) -> String {
        guard (1...longest).contains(text.utf8.count), let first = text.utf8.first, isLetterOrDigit(first),
            text.utf8.allSatisfy({ isLetterOrDigit($0) || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F })
        else {
            throw FormatError(
                "\(quoted(text)) is not a name",
                "Use 1 to \(longest) letters, digits, \"-\", \"_\" and \".\", beginning with a letter or digit."
            )
        }
        return text
    }

    private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        default: false
        }
    }

    /// Parses one of the raw values of `Choice`.
    package static func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ text: String,
        of type: Choice.Type
    ) throws(FormatError) -> Choice {
        if let value = Choice(rawValue: text.lowercased()) { return value }
        let words = Choice.allCases.map(\.rawValue)
        let guess = nearest(to: text, among: words).map { "Did you mean \($0)? " } ?? ""
        throw FormatError("\(quoted(text)) is not known", "\(guess)Write one of \(words.joined(separator: ", ")).")
    }
}
