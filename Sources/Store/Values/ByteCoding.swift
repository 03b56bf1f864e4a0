/// Appends little-endian numbers.
struct ByteWriter {
    var bytes: [UInt8] = []

    mutating func write(_ number: some FixedWidthInteger) {
        withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func write(_ incarnation: Incarnation) {
        // Big-endian within, as a ULID's bytes are: they sort like its text.
        withUnsafeBytes(of: incarnation.high.bigEndian) { bytes.append(contentsOf: $0) }
        withUnsafeBytes(of: incarnation.low.bigEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func write(_ more: some Sequence<UInt8>) {
        bytes.append(contentsOf: more)
    }
}

/// Takes little-endian numbers from the front of foreign bytes; nil is what is not there.
struct ByteReader {
    private let bytes: UnsafeRawBufferPointer
    private(set) var position: Int

    init(_ bytes: UnsafeRawBufferPointer, at position: Int = 0) {
        self.bytes = bytes
        self.position = position
    }

    var remaining: Int { bytes.count - position }

    mutating func read<Number: FixedWidthInteger & BitwiseCopyable>(_ type: Number.Type = Number.self) -> Number? {
        let size = MemoryLayout<Number>.size
        guard remaining >= size else { return nil }
        defer { position += size }
        return Number(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: Number.self))
    }

    mutating func readIncarnation() -> Incarnation? {
        guard let high = read(UInt64.self), let low = read(UInt64.self) else { return nil }
        return Incarnation(high: high.byteSwapped, low: low.byteSwapped)
    }

    mutating func read(count: Int) -> UnsafeRawBufferPointer? {
        guard count >= 0, remaining >= count else { return nil }
        defer { position += count }
        return UnsafeRawBufferPointer(rebasing: bytes[position..<position + count])
    }
}
