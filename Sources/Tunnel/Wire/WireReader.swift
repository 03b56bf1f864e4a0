/// A cursor over the plaintext of one packet. It never reads past the end and never copies.
package struct WireReader {
    private let bytes: UnsafeRawBufferPointer
    private(set) var position = 0

    package init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    package var remaining: Int { bytes.count - position }
    package var isAtEnd: Bool { position >= bytes.count }

    /// Reads a variable-length integer (RFC 9000 §16).
    package mutating func readVarInt() throws(TunnelError) -> UInt64 {
        guard position < bytes.count else { throw .malformed("packet: it ends inside an integer") }
        let first = bytes[position]
        let length = 1 << Int(first >> 6)
        guard remaining >= length else { throw .malformed("packet: it ends inside an integer") }
        var value = UInt64(first & 0x3f)
        var index = 1
        while index < length {
            value = value << 8 | UInt64(bytes[position + index])
            index += 1
        }
        position += length
        return value
    }

    /// Reads `count` raw bytes. They stay owned by the packet.
    package mutating func readBytes(_ count: UInt64) throws(TunnelError) -> UnsafeRawBufferPointer {
        guard count <= UInt64(remaining) else { throw .malformed("packet: it ends inside a frame") }
        defer { position += Int(count) }
        return UnsafeRawBufferPointer(rebasing: bytes[position..<(position + Int(count))])
    }

    /// Reads all remaining bytes. They stay owned by the packet.
    package mutating func readRest() -> UnsafeRawBufferPointer {
        defer { position = bytes.count }
        return UnsafeRawBufferPointer(rebasing: bytes[position...])
    }

    /// Skips a run of zero bytes (PADDING frames).
    mutating func skipZeroes() {
        while position < bytes.count, bytes[position] == 0 { position += 1 }
    }
}
