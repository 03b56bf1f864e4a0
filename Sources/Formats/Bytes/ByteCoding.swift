/// Appends binary fields to an array of bytes. Numbers are little-endian.
package struct ByteWriter {
    package var bytes: [UInt8] = []

    package init() {}

    @inlinable
    package mutating func write(_ number: some FixedWidthInteger) {
        withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }

    @inlinable
    package mutating func write(_ more: some Sequence<UInt8>) {
        bytes.append(contentsOf: more)
    }
}

/// Reads binary fields from untrusted bytes, front to back. Numbers are little-endian.
///
/// Each method returns `nil`, and reads nothing, if fewer bytes remain than it needs. The bytes have to outlive the
/// reader.
package struct ByteReader {
    @usableFromInline
    let bytes: UnsafeRawBufferPointer
    @usableFromInline
    var offset: Int

    @inlinable
    package init(_ bytes: UnsafeRawBufferPointer, at position: Int = 0) {
        self.bytes = bytes
        self.offset = position
    }

    /// The offset of the next field.
    @inlinable
    package var position: Int { offset }

    @inlinable
    package var remaining: Int { bytes.count - offset }

    @inlinable
    package mutating func read<Number: FixedWidthInteger & BitwiseCopyable>(
        _ type: Number.Type = Number.self
    ) -> Number? {
        let size = MemoryLayout<Number>.size
        guard remaining >= size else { return nil }
        defer { offset += size }
        return Number(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Number.self))
    }

    /// Returns the next `count` bytes, which point into the bytes that the reader was created with.
    @inlinable
    package mutating func read(count: Int) -> UnsafeRawBufferPointer? {
        guard count >= 0, remaining >= count else { return nil }
        defer { offset += count }
        return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
    }
}
