/// A cursor over the fields of a TLS message. Each method returns `nil` if the field is not complete. Every length is
/// checked before use, so no input can cause a trap.
///
/// A view of the caller's bytes, which it must not outlive.
struct HelloReader {
    private let bytes: UnsafeRawBufferPointer
    private var position = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    var isAtEnd: Bool { position == bytes.count }

    mutating func readBytes(_ count: Int) -> UnsafeRawBufferPointer? {
        /// Reads this many bytes.
        guard count >= 0, count <= bytes.count - position else { return nil }
        defer { position += count }
        return UnsafeRawBufferPointer(rebasing: bytes[position..<position + count])
    }

    /// Reads one byte.
    mutating func uint8() -> Int? {
        guard let field = readBytes(1) else { return nil }
        return Int(field[0])
    }

    /// Reads a two-byte integer in network byte order.
    mutating func uint16() -> Int? {
        guard let field = readBytes(2) else { return nil }
        return Int(field[0]) << 8 | Int(field[1])
    }

    /// Reads a vector with a one-byte length (RFC 8446 §3.4).
    mutating func vector8() -> UnsafeRawBufferPointer? {
        guard let count = uint8() else { return nil }
        return readBytes(count)
    }

    /// Reads a vector with a two-byte length.
    mutating func vector16() -> UnsafeRawBufferPointer? {
        guard let count = uint16() else { return nil }
        return readBytes(count)
    }
}
