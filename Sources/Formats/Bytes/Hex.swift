/// Hexadecimal text (RFC 4648 §8): written in lower case, read in either case.
package enum Hex {
    @usableFromInline
    static let digits = Array("0123456789abcdef".utf8)

    @inlinable
    package static func string(_ bytes: some Sequence<UInt8>) -> String {
        var text: [UInt8] = []
        text.reserveCapacity(bytes.underestimatedCount * 2)
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// Sixteen digits, the most significant first.
    package static func string(_ number: UInt64) -> String {
        withUnsafeBytes(of: number.bigEndian) { string($0) }
    }

    /// - Returns: The bytes, or `nil` if the text is anything but pairs of digits.
    package static func bytes(_ text: String) -> [UInt8]? { bytes(of: text.utf8) }

    /// Decodes text that is given as its UTF-8 bytes.
    @inlinable
    package static func bytes(of text: some Collection<UInt8>) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count / 2)
        var high: UInt8?
        for character in text {
            guard let digit = digit(character) else { return nil }
            if let first = high {
                bytes.append(first << 4 | digit)
                high = nil
            } else {
                high = digit
            }
        }
        return high == nil ? bytes : nil
    }

    /// - Returns: 0 to 15, or `nil` if the character is no hexadecimal digit.
    @inlinable
    package static func digit(_ character: UInt8) -> UInt8? {
        switch character {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): character - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): character - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
