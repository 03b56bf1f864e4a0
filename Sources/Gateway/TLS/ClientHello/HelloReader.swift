/// Reads the fields of a TLS message one after the other. What is not there is nil: no length is believed before it was
/// checked, and nothing here can trap.
///
/// A view of the caller's bytes: it must not outlive them.
struct HelloReader {
    private let bytes: UnsafeRawBufferPointer
    private var position = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    var isAtEnd: Bool { position == bytes.count }

    mutating func take(_ count: Int) -> UnsafeRawBufferPointer? {
        guard count >= 0, count <= bytes.count - position else { return nil }
        defer { position += count }
        return UnsafeRawBufferPointer(rebasing: bytes[position..<position + count])
    }

    /// One byte.
    mutating func uint8() -> Int? {
        guard let field = take(1) else { return nil }
        return Int(field[0])
    }

    /// Two bytes, big endian.
    mutating func uint16() -> Int? {
        guard let field = take(2) else { return nil }
        return Int(field[0]) << 8 | Int(field[1])
    }

    /// A vector that has its length in one byte before it (RFC 8446 §3.4).
    mutating func vector8() -> UnsafeRawBufferPointer? {
        guard let count = uint8() else { return nil }
        return take(count)
    }

    /// A vector that has its length in two bytes before it.
    mutating func vector16() -> UnsafeRawBufferPointer? {
        guard let count = uint16() else { return nil }
        return take(count)
    }
}
