/// Builds one line of log in bytes. Strings of foreign origin are capped, and nothing in them can end the line, close a
/// quotation, or speak to a terminal.
struct LineBuilder {
    /// Bytes of a message, and of any other text, before they are cut.
    static let messageLimit = 8_192
    static let textLimit = 2_048

    private(set) var bytes: [UInt8]

    init(reserving capacity: Int = 512) {
        self.bytes = []
        self.bytes.reserveCapacity(capacity)
    }

    mutating func append(_ byte: UInt8) {
        self.bytes.append(byte)
    }

    /// Text of ours that needs no escape.
    mutating func append(literal text: StaticString) {
        self.bytes.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    mutating func append(_ number: Int) {
        var rest = number.magnitude
        var digits = 1
        while rest >= 10 {
            rest /= 10
            digits += 1
        }
        if number < 0 { self.append(UInt8(ascii: "-")) }
        self.append(digits: number.magnitude, width: digits)
    }

    mutating func append(unescaped text: String) {
        var text = text
        text.withUTF8 { self.bytes.append(contentsOf: $0) }
    }

    /// Milliseconds with three decimals, from nanoseconds.
    mutating func append(milliseconds nanoseconds: Int64) {
        let microseconds = Int(max(0, nanoseconds) / 1_000)
        self.append(microseconds / 1_000)
        self.append(UInt8(ascii: "."))
        self.append(digits: UInt(microseconds % 1_000), width: 3)
    }

    /// The last `width` digits, with leading zeroes; `width` is at most 20.
    mutating func append(digits number: UInt, width: Int) {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 20) { digits in
            var rest = number
            for index in stride(from: width - 1, through: 0, by: -1) {
                digits[index] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
                rest /= 10
            }
            self.bytes.append(contentsOf: digits[..<width])
        }
    }

    /// A JSON string (RFC 8259 §7), quotation marks included.
    mutating func append(quoted text: String, limit: Int = LineBuilder.textLimit) {
        self.append(UInt8(ascii: "\""))
        self.append(escaped: text, limit: limit)
        self.append(UInt8(ascii: "\""))
    }

    /// Quotation marks, backslashes and every control character (C0, DEL, C1, line separators) are escaped as in JSON.
    /// At most `limit` bytes of the text are taken; a cut is shown by an ellipsis.
    mutating func append(escaped text: String, limit: Int = LineBuilder.textLimit) {
        var text = text
        text.withUTF8 { utf8 in
            let end = Self.cut(utf8, at: limit)
            // Runs of harmless bytes are copied at once: nearly every text is a single one.
            var start = 0
            var index = 0
            while index < end {
                guard Self.mayNeedEscape(utf8[index]) else {
                    index += 1
                    continue
                }
                self.bytes.append(contentsOf: utf8[start..<index])
                index += self.append(escapedCharacterAt: index, of: UnsafeBufferPointer(rebasing: utf8[..<end]))
                start = index
            }
            self.bytes.append(contentsOf: utf8[start..<end])
            if end < utf8.count { self.append(literal: "\u{2026}") }
        }
    }

    /// Control characters, what JSON quotes, and the first bytes of the longer characters that are escaped.
    private static func mayNeedEscape(_ byte: UInt8) -> Bool {
        byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") || byte == 0x7f || byte == 0xc2
            || byte == 0xe2
    }

    /// One character, escaped if it must be.
    ///
    /// - Returns: the bytes of the text that it took.
    private mutating func append(escapedCharacterAt index: Int, of utf8: UnsafeBufferPointer<UInt8>) -> Int {
        let byte = utf8[index]
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"):
            self.bytes.append(UInt8(ascii: "\\"))
            self.bytes.append(byte)
        case UInt8(ascii: "\n"): self.append(literal: "\\n")
        case UInt8(ascii: "\r"): self.append(literal: "\\r")
        case UInt8(ascii: "\t"): self.append(literal: "\\t")
        case 0x00..<0x20, 0x7f: self.append(hexEscape: UInt16(byte))
        case 0xc2 where index + 1 < utf8.count && utf8[index + 1] < 0xa0:
            // U+0080 … U+009F: control characters that some terminals obey.
            self.append(hexEscape: UInt16(utf8[index + 1]))
            return 2
        case 0xe2 where index + 2 < utf8.count && utf8[index + 1] == 0x80 && (utf8[index + 2] & 0xfe) == 0xa8:
            // U+2028 and U+2029 end a line for some readers.
            self.append(hexEscape: 0x2028 + UInt16(utf8[index + 2] & 1))
            return 3
        default: self.bytes.append(byte)
        }
        return 1
    }

    /// The last boundary between characters at or before `limit`.
    private static func cut(_ utf8: UnsafeBufferPointer<UInt8>, at limit: Int) -> Int {
        guard utf8.count > limit else { return utf8.count }
        var end = limit
        while end > 0, utf8[end] & 0xc0 == 0x80 { end -= 1 }
        return end
    }

    private mutating func append(hexEscape unit: UInt16) {
        self.append(literal: "\\u")
        for shift in [12, 8, 4, 0] {
            let digit = UInt8(truncatingIfNeeded: unit >> UInt16(shift)) & 0xf
            self.bytes.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
        }
    }
}
