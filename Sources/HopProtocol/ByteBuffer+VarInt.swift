package import NIOCore
import Tunnel

extension ByteBuffer {
    /// Writes `value` in its shortest form. A value above 2^62 − 1 is a bug of ours.
    package mutating func writeVarInt(_ value: UInt64) {
        precondition(value <= VarInt.max, "a variable-length integer holds 62 bits")
        switch value {
        case 0..<0x40: writeInteger(UInt8(truncatingIfNeeded: value))
        case 0x40..<0x4000: writeInteger(UInt16(truncatingIfNeeded: value) | 0x4000)
        case 0x4000..<0x4000_0000: writeInteger(UInt32(truncatingIfNeeded: value) | 0x8000_0000)
        default: writeInteger(value | 0xC000_0000_0000_0000)
        }
    }

    /// Reads one variable-length integer; nil, and nothing moved, when the buffer ends inside it.
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

    /// Writes a variable-length integer length and the string's UTF-8.
    mutating func writeLengthPrefixed(_ text: String) {
        writeVarInt(UInt64(text.utf8.count))
        writeString(text)
    }

    /// Reads a variable-length integer length, at most `limit`, and that many bytes. Nil: too long, or the buffer ends before.
    mutating func readLengthPrefixed(limit: Int) -> ByteBuffer? {
        guard let length = readVarInt(), length <= UInt64(limit) else { return nil }
        return readSlice(length: Int(length))
    }
}

/// Reads one variable-length integer from bytes that arrive in any pieces, without keeping the pieces.
struct VarIntReader {
    private var value: UInt64 = 0
    private var missing = 0
    private(set) var isInside = false

    /// Takes bytes from `buffer` until the variable-length integer is complete; nil: more bytes are needed.
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
