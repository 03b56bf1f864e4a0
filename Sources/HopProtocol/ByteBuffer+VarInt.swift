package import NIOCore
import Tunnel

extension ByteBuffer {
    /// Writes `value` as a variable-length integer (RFC 9000 §16) in its shortest form. A value above 2^62 − 1 is a
    /// programming error and traps.
    package mutating func writeVarInt(_ value: UInt64) {
        precondition(value <= VarInt.max, "a variable-length integer holds 62 bits")
        switch value {
        case 0..<0x40: writeInteger(UInt8(truncatingIfNeeded: value))
        case 0x40..<0x4000: writeInteger(UInt16(truncatingIfNeeded: value) | 0x4000)
        case 0x4000..<0x4000_0000: writeInteger(UInt32(truncatingIfNeeded: value) | 0x8000_0000)
        default: writeInteger(value | 0xC000_0000_0000_0000)
        }
    }

    /// Reads a variable-length integer. Returns `nil`, and moves nothing, if the buffer ends inside it.
    package mutating func readVarInt() -> UInt64? {
        guard let first = getInteger(at: readerIndex, as: UInt8.self) else { return nil }
        switch first >> 6 {
        case 0:
            moveReaderIndex(forwardBy: 1)
            return UInt64(first)
        case 1: return readInteger(as: UInt16.self).map { UInt64($0 & 0x3FFF) }
        case 2: return readInteger(as: UInt32.self).map { UInt64($0 & 0x3FFF_FFFF) }
        default: return readInteger(as: UInt64.self).map { $0 & VarInt.max }
        }
    }

    /// Writes the length of the string's UTF-8 as a variable-length integer, then the UTF-8.
    mutating func writeLengthPrefixed(_ text: String) {
        writeVarInt(UInt64(text.utf8.count))
        writeString(text)
    }

    /// Reads a length as a variable-length integer, then as many bytes. Returns `nil` if the length is above `limit` or
    /// the buffer ends before.
    mutating func readLengthPrefixed(limit: Int) -> ByteBuffer? {
        guard let length = readVarInt(), length <= UInt64(limit) else { return nil }
        return readSlice(length: Int(length))
    }
}

/// A reader of one variable-length integer from bytes that arrive in arbitrary pieces. It does not keep the pieces.
struct VarIntReader {
    private var value: UInt64 = 0
    private var missing = 0
    private(set) var isInside = false

    /// Consumes bytes of `buffer` until the integer is complete. Returns `nil` if more bytes are needed.
    mutating func read(from buffer: inout ByteBuffer) -> UInt64? {
        if !isInside {
            if let whole = buffer.readVarInt() { return whole }
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
