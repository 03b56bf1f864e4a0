package import NIOCore

/// Variable-length integers, RFC 9000 §16: the two top bits of the first byte give the length (1, 2, 4 or 8 bytes).
/// Longer encodings than needed are valid.
package enum Varint {
    package static let maximum: UInt64 = (1 << 62) - 1

    /// Bytes that the shortest encoding of `value` takes.
    package static func length(of value: UInt64) -> Int {
        switch value {
        case 0..<0x40: 1
        case 0x40..<0x4000: 2
        case 0x4000..<0x4000_0000: 4
        default: 8
        }
    }
}

extension ByteBuffer {
    /// Writes `value` in its shortest form. A value above 2^62 − 1 is a bug of ours.
    package mutating func writeVarint(_ value: UInt64) {
        precondition(value <= Varint.maximum, "a varint holds 62 bits")
        switch value {
        case 0..<0x40: writeInteger(UInt8(truncatingIfNeeded: value))
        case 0x40..<0x4000: writeInteger(UInt16(truncatingIfNeeded: value) | 0x4000)
        case 0x4000..<0x4000_0000: writeInteger(UInt32(truncatingIfNeeded: value) | 0x8000_0000)
        default: writeInteger(value | 0xC000_0000_0000_0000)
        }
    }

    /// Reads one varint; nil, and nothing moved, when the buffer ends inside it.
    package mutating func readVarint() -> UInt64? {
        guard let first = getInteger(at: readerIndex, as: UInt8.self) else { return nil }
        switch first >> 6 {
        case 0:
            moveReaderIndex(forwardBy: 1)
            return UInt64(first)
        case 1: return readInteger(as: UInt16.self).map { UInt64($0 & 0x3FFF) }
        case 2: return readInteger(as: UInt32.self).map { UInt64($0 & 0x3FFF_FFFF) }
        default: return readInteger(as: UInt64.self).map { $0 & Varint.maximum }
        }
    }

    /// Writes a varint length and the string's UTF-8.
    mutating func writeLengthPrefixed(_ text: String) {
        writeVarint(UInt64(text.utf8.count))
        writeString(text)
    }

    /// Reads a varint length, at most `limit`, and that many bytes. Nil: too long, or the buffer ends before.
    mutating func readLengthPrefixed(limit: Int) -> ByteBuffer? {
        guard let length = readVarint(), length <= UInt64(limit) else { return nil }
        return readSlice(length: Int(length))
    }
}

/// Reads one varint from bytes that arrive in any pieces, without keeping the pieces.
struct VarintReader {
    private var value: UInt64 = 0
    private var missing = 0
    private(set) var isInside = false

    /// Takes bytes from `buffer` until the varint is complete; nil: more bytes are needed.
    mutating func read(from buffer: inout ByteBuffer) -> UInt64? {
        if !isInside {
            if let whole = buffer.readVarint() { return whole }
            guard let first = buffer.readInteger(as: UInt8.self) else { return nil }
            missing = (1 << Int(first >> 6)) - 1
            value = UInt64(first & 0x3F)
            isInside = true
        }
        while missing > 0 {
            guard let byte = buffer.readInteger(as: UInt8.self) else { return nil }
            value = value << 8 | UInt64(byte)
            missing -= 1
        }
        isInside = false
        return value
    }
}
