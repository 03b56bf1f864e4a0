import Formats

/// The name of one start of one process: a ULID, which is 48 bits of milliseconds and 80 random bits, written as 26
/// characters of Crockford's base 32. Never reused. The time in it is for people; no decision depends on it.
package struct Incarnation: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// - Parameters:
    ///   - milliseconds: The wall-clock time in milliseconds since 1970; the upper 16 bits are dropped.
    ///   - random: Returns 64 random bits per call.
    package init(milliseconds: UInt64, random: () -> UInt64) {
        high = milliseconds << 16 | random() & 0xffff
        low = random()
    }

    /// Parses a name. Fails unless it is written exactly as ``description`` writes it.
    package init?(_ text: some StringProtocol) {
        let bytes = Array(text.utf8)
        // 26 characters hold 130 bits; the first may use only three of its five.
        guard bytes.count == 26, let first = Self.digit(bytes[0]), first < 8 else { return nil }
        var high: UInt64 = 0
        var low: UInt64 = 0
        for byte in bytes {
            guard let digit = Self.digit(byte) else { return nil }
            high = high << 5 | low >> 59
            low = low << 5 | digit
        }
        self.init(high: high, low: low)
    }

    package var description: String {
        var text = [UInt8](repeating: 0, count: 26)
        var high = high
        var low = low
        for index in text.indices.reversed() {
            text[index] = Self.alphabet[Int(low & 31)]
            low = low >> 5 | high << 59
            high >>= 5
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// The milliseconds since 1970, by the clock of the process that created the name.
    package var milliseconds: UInt64 { high >> 16 }

    package static func < (left: Incarnation, right: Incarnation) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }

    private static let alphabet = Array("0123456789ABCDEFGHJKMNPQRSTVWXYZ".utf8)

    private static func digit(_ byte: UInt8) -> UInt64? {
        alphabet.firstIndex(of: byte).map { UInt64($0) }
    }
}

extension ByteWriter {
    /// Appends the 16 bytes of a ULID, in big-endian order, so that they sort as its text does.
    mutating func write(_ incarnation: Incarnation) {
        withUnsafeBytes(of: incarnation.high.bigEndian) { write($0) }
        withUnsafeBytes(of: incarnation.low.bigEndian) { write($0) }
    }
}

extension ByteReader {
    /// Reads the 16 bytes of a ULID, or returns `nil` if fewer are left.
    mutating func readIncarnation() -> Incarnation? {
        guard let high = read(UInt64.self), let low = read(UInt64.self) else { return nil }
        return Incarnation(high: high.byteSwapped, low: low.byteSwapped)
    }
}
