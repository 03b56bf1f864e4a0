/// A writer of one packet's plaintext into memory that the caller owns. Callers check `remaining` first; writing past
/// the end is a programming error and traps.
package struct WireWriter {
    private let bytes: UnsafeMutableRawBufferPointer
    package private(set) var count = 0

    package init(_ bytes: UnsafeMutableRawBufferPointer) { self.bytes = bytes }

    package var remaining: Int { bytes.count - count }

    package mutating func write(byte: UInt8) {
        bytes[count] = byte
        count += 1
    }

    /// Writes a variable-length integer in its shortest form (RFC 9000 §16).
    package mutating func write(varInt value: UInt64) {
        switch VarInt.length(value) {
        case 1:
            bytes[count] = UInt8(truncatingIfNeeded: value)
            count += 1
        case 2:
            store(UInt16(truncatingIfNeeded: value) | 0x4000)
        case 4:
            store(UInt32(truncatingIfNeeded: value) | 0x8000_0000)
        default:
            store(value | 0xc000_0000_0000_0000)
        }
    }

    /// Writes a variable-length integer that always takes two bytes, so that a length can be written after the bytes
    /// that it counts.
    mutating func write(twoByteVarInt value: UInt64) {
        precondition(value < 1 << 14)
        store(UInt16(truncatingIfNeeded: value) | 0x4000)
    }

    mutating func write(bytes source: UnsafeRawBufferPointer) {
        UnsafeMutableRawBufferPointer(rebasing: bytes[count..<(count + source.count)]).copyMemory(from: source)
        count += source.count
    }

    /// Returns the next `length` bytes for the caller to fill.
    mutating func reserve(_ length: Int) -> UnsafeMutableRawBufferPointer {
        defer { count += length }
        return UnsafeMutableRawBufferPointer(rebasing: bytes[count..<(count + length)])
    }

    /// Writes PADDING up to `size` bytes in all.
    mutating func pad(to size: Int) {
        guard size > count else { return }
        UnsafeMutableRawBufferPointer(rebasing: bytes[count..<size]).initializeMemory(as: UInt8.self, repeating: 0)
        count = size
    }

    /// Moves the write position, so that a field can be filled in later.
    mutating func rewind(to position: Int) { count = position }

    private mutating func store<Integer: FixedWidthInteger>(_ value: Integer) {
        bytes.storeBytes(of: value.bigEndian, toByteOffset: count, as: Integer.self)
        count += MemoryLayout<Integer>.size
    }
}
