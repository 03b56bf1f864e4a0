/// Byte rules of RFC 9110 §5, on bytes as they come from the network.
package enum ASCII {
    /// Returns whether the bytes are a token: one or more `tchar` (RFC 9110 §5.6.2).
    package static func isToken(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard !bytes.isEmpty else { return false }
        for byte in bytes where !isTokenCharacter(byte) { return false }
        return true
    }

    /// Returns whether the bytes may be a field value: no control character but HTAB, obs-text allowed (RFC 9110 §5.5).
    package static func isFieldValue(_ bytes: UnsafeRawBufferPointer) -> Bool {
        for byte in bytes where byte < 0x20 && byte != 0x09 || byte == 0x7F { return false }
        return true
    }

    /// Returns whether the bytes contain neither space nor control characters, as between the spaces of a request line.
    static func isVisible(_ bytes: UnsafeRawBufferPointer) -> Bool {
        for byte in bytes where byte <= 0x20 || byte == 0x7F { return false }
        return true
    }

    /// Returns the value of 1 to 19 digits without sign or space, or `nil` if the bytes are anything else or the value
    /// is 2^63 or more.
    package static func decimal(_ bytes: UnsafeRawBufferPointer) -> Int? {
        guard (1...19).contains(bytes.count) else { return nil }
        var value: UInt64 = 0
        for byte in bytes {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            value = value &* 10 &+ UInt64(byte &- UInt8(ascii: "0"))
        }
        return Int(exactly: value)
    }

    /// Compares without regard to ASCII case.
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

    /// The token characters below 64 as a bit set: bit n is character n.
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
