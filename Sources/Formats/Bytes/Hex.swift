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
    package static func bytes(of text: some Collection<UInt8>) -> [UInt8]? {
        // Not generic, because a start decodes thousands of documents.
        text.withContiguousStorageIfAvailable(decode) ?? Array(text).withUnsafeBufferPointer(decode)
    }

    private static func decode(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
        guard text.count.isMultiple(of: 2) else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count / 2)
        for index in stride(from: 0, to: text.count, by: 2) {
            guard let high = digit(text[index]), let low = digit(text[index + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
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
