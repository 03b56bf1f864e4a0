/// Byte rules of RFC 9110 §5, on bytes as they came from the network.
package enum ASCII {
    /// RFC 9110 §5.6.2: 1 or more of `tchar`.
    package static func isToken(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard !bytes.isEmpty else { return false }
        for byte in bytes where !isTokenCharacter(byte) { return false }
        return true
    }

    /// RFC 9110 §5.5, with obs-text: no control character but HTAB.
    package static func isFieldValue(_ bytes: UnsafeRawBufferPointer) -> Bool {
        for byte in bytes where byte < 0x20 && byte != 0x09 || byte == 0x7F { return false }
        return true
    }

    /// Neither space nor control character: what may stand in a request line between its spaces.
    static func isVisible(_ bytes: UnsafeRawBufferPointer) -> Bool {
        for byte in bytes where byte <= 0x20 || byte == 0x7F { return false }
        return true
    }

    /// 1–19 digits, below 2^63; no sign, no space.
    package static func decimal(_ bytes: UnsafeRawBufferPointer) -> Int? {
        guard (1...19).contains(bytes.count) else { return nil }
        var value: UInt64 = 0
        for byte in bytes {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            value = value &* 10 &+ UInt64(byte &- UInt8(ascii: "0"))
        }
        return Int(exactly: value)
    }

    package static func equalIgnoringCase(_ bytes: UnsafeRawBufferPointer, _ text: String) -> Bool {
        guard bytes.count == text.utf8.count else { return false }
        var index = 0
        for byte in text.utf8 {
            if lowercased(bytes[index]) != lowercased(byte) { return false }
            index &+= 1
        }
        return true
    }

    /// Returns the bytes without spaces and tabs at their ends.
    package static func trimmed(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        var start = 0
        var end = bytes.count
        while start < end, bytes[start] == 0x20 || bytes[start] == 0x09 { start += 1 }
        while end > start, bytes[end - 1] == 0x20 || bytes[end - 1] == 0x09 { end -= 1 }
        return UnsafeRawBufferPointer(rebasing: bytes[start..<end])
    }

    @inline(__always)
    private static func lowercased(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
    }

    /// The 94 visible characters as a bit set: bit n is character n.
    private static let tokenLow: UInt64 = bits("!#$%&'*+-.0123456789", base: 0)
    private static let tokenHigh: UInt64 = bits(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~",
        base: 64
    )

    @inline(__always)
    private static func isTokenCharacter(_ byte: UInt8) -> Bool {
        byte < 64 ? tokenLow >> UInt64(byte) & 1 == 1 : byte < 128 && tokenHigh >> UInt64(byte &- 64) & 1 == 1
    }

    private static func bits(_ characters: StaticString, base: UInt8) -> UInt64 {
        characters.withUTF8Buffer { $0.reduce(0) { $0 | 1 << UInt64($1 - base) } }
    }
}
