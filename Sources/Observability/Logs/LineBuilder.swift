import Formats

/// A builder of one log line as bytes. Foreign strings are truncated and escaped, so that they cannot end the line,
/// close a quotation or control a terminal.
struct LineBuilder {
    /// The maximum numbers of bytes of a message, and of any other text.
    static let messageLimit = 8_192
    static let textLimit = 2_048

    private(set) var bytes: [UInt8]

    init(reserving capacity: Int = 512) {
        self.bytes = []
        bytes.reserveCapacity(capacity)
    }

    mutating func append(_ byte: UInt8) {
        bytes.append(byte)
    }

    /// Appends a literal, which needs no escaping.
    mutating func append(literal text: StaticString) {
        bytes.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    mutating func append(_ number: Int) {
        var rest = number.magnitude
        var digits = 1
        while rest >= 10 {
            rest /= 10
            digits += 1
        }
        if number < 0 { append(UInt8(ascii: "-")) }
        append(digits: number.magnitude, width: digits)
    }

    mutating func append(unescaped text: String) {
        var text = text
        text.withUTF8 { bytes.append(contentsOf: $0) }
    }

    /// Appends nanoseconds as milliseconds with three decimals.
    mutating func append(milliseconds nanoseconds: Int64) {
        let microseconds = Int(max(0, nanoseconds) / 1_000)
        append(microseconds / 1_000)
        append(UInt8(ascii: "."))
        append(digits: UInt(microseconds % 1_000), width: 3)
    }

    /// Appends the last `width` digits of a number, with leading zeroes. `width` is at most 20.
    mutating func append(digits number: UInt, width: Int) {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 20) { digits in
            var rest = number
            for index in stride(from: width - 1, through: 0, by: -1) {
                digits[index] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
                rest /= 10
            }
            bytes.append(contentsOf: digits[..<width])
        }
    }

    /// Appends a JSON string (RFC 8259 §7), including the quotation marks.
    mutating func append(quoted text: String, limit: Int = LineBuilder.textLimit) {
        append(UInt8(ascii: "\""))
        append(escaped: text, limit: limit)
        append(UInt8(ascii: "\""))
    }

    /// Appends a text with quotation marks, backslashes and all control characters (C0, DEL, C1, line separators)
    /// escaped as in JSON. At most `limit` bytes of the text are used; truncation is shown by an ellipsis.
    mutating func append(escaped text: String, limit: Int = LineBuilder.textLimit) {
        var text = text
        text.withUTF8 { utf8 in
            let end = Self.cut(utf8, at: limit)
            // Runs of bytes without escapes are copied at once: nearly every text is a single run.
            var start = 0
            var index = 0
            while index < end {
                guard Self.mayNeedEscape(utf8[index]) else {
                    index += 1
                    continue
                }
                bytes.append(contentsOf: utf8[start..<index])
                index += append(escapedCharacterAt: index, of: UnsafeBufferPointer(rebasing: utf8[..<end]))
                start = index
            }
            bytes.append(contentsOf: utf8[start..<end])
            if end < utf8.count { append(literal: "\u{2026}") }
        }
    }

    /// Whether a byte is a control character, is quoted in JSON, or begins a longer character that may need escaping.
    private static func mayNeedEscape(_ byte: UInt8) -> Bool {
        byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") || byte == 0x7f || byte == 0xc2
            || byte == 0xe2
    }

    /// Appends one character, escaped if necessary.
    ///
    /// - Returns: The number of bytes of the text that it consumed.
    private mutating func append(escapedCharacterAt index: Int, of utf8: UnsafeBufferPointer<UInt8>) -> Int {
        let byte = utf8[index]
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"):
            bytes.append(UInt8(ascii: "\\"))
            bytes.append(byte)
        case UInt8(ascii: "\n"): append(literal: "\\n")
        case UInt8(ascii: "\r"): append(literal: "\\r")
        case UInt8(ascii: "\t"): append(literal: "\\t")
        case 0x00..<0x20, 0x7f: append(hexEscape: UInt16(byte))
        case 0xc2 where index + 1 < utf8.count && utf8[index + 1] < 0xa0:
            // U+0080 … U+009F: control characters that some terminals obey.
            append(hexEscape: UInt16(utf8[index + 1]))
            return 2
        case 0xe2 where index + 2 < utf8.count && utf8[index + 1] == 0x80 && (utf8[index + 2] & 0xfe) == 0xa8:
            // U+2028 and U+2029 end a line for some readers.
            append(hexEscape: 0x2028 + UInt16(utf8[index + 2] & 1))
            return 3
        default: bytes.append(byte)
        }
        return 1
    }

    /// The position of the last character boundary at or before `limit`.
    private static func cut(_ utf8: UnsafeBufferPointer<UInt8>, at limit: Int) -> Int {
        guard utf8.count > limit else { return utf8.count }
        var end = limit
        while end > 0, utf8[end] & 0xc0 == 0x80 { end -= 1 }
        return end
    }

    private mutating func append(hexEscape unit: UInt16) {
        append(literal: "\\u")
        for shift in [12, 8, 4, 0] {
            let digit = UInt8(truncatingIfNeeded: unit >> UInt16(shift)) & 0xf
            bytes.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
        }
    }
}
