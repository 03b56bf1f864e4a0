/// Variable-length integers, RFC 9000 §16: the two top bits of the first byte give the length (1, 2, 4 or 8 bytes).
/// Encodings longer than needed are valid.
package enum VarInt {
    /// The largest value that can be encoded, 2^62 − 1.
    @inlinable
    package static var max: UInt64 { 1 << 62 - 1 }

    /// Returns the number of bytes of the shortest encoding of `value`: 1, 2, 4 or 8.
    @inlinable
    package static func length(_ value: UInt64) -> Int {
        precondition(value <= max, "an integer above 2^62-1 cannot be encoded")
        return value < 1 << 6 ? 1 : value < 1 << 14 ? 2 : value < 1 << 30 ? 4 : 8
    }
}
