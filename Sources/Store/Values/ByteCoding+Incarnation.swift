import Formats

extension ByteWriter {
    /// Appends the 16 bytes of a ULID, in big-endian order, so that they sort as its text does.
    mutating func write(_ incarnation: Incarnation) {
        withUnsafeBytes(of: incarnation.high.bigEndian) { write($0) }
        withUnsafeBytes(of: incarnation.low.bigEndian) { write($0) }
    }
}

extension ByteReader {
    mutating func readIncarnation() -> Incarnation? {
        guard let high = read(UInt64.self), let low = read(UInt64.self) else { return nil }
        return Incarnation(high: high.byteSwapped, low: low.byteSwapped)
    }
}
