import Formats

/// A change of one row, as stored in a snapshot or a log:
///
/// ```
/// len u32 of the payload · type u16 · payload, after len:
/// crc32c u32 over (incarnation 16 B, gen u64, offset u64, type u16, payload)
/// payload of put (1): key length u16, key, value      payload of remove (2): key length u16, key
/// ```
///
/// The checksum includes the position of the record, so that bytes of another file or another position are not valid
/// records. Records of unknown types are skipped.
package enum JournalRecord: Equatable, Sendable {
    case put(key: [UInt8], value: [UInt8])
    case remove(key: [UInt8])
    /// A record type of a later release.
    case unknown(type: UInt16)

    package static let headSize = 10
    package static let keyLimit = 255
    package static let valueLimit = 32_768
    static let payloadLimit = 65_536

    var type: UInt16 {
        switch self {
        case .put: 1
        case .remove: 2
        case .unknown(let type): type
        }
    }

    /// Checks the size of a row before it is admitted: agents choose its content.
    ///
    /// - Throws: `tooLarge`.
    static func requireSize(key: [UInt8], value: [UInt8]) throws(StoreError) {
        guard key.count <= keyLimit, value.count <= valueLimit else {
            throw StoreError(
                .tooLarge,
                "a row of the journal",
                "has a key of at most \(keyLimit) bytes and a value of at most \(valueLimit); this one has "
                    + "\(key.count) and \(value.count)"
            )
        }
    }

    private var payload: [UInt8] {
        var writer = ByteWriter()
        switch self {
        case .put(let key, let value):
            writer.write(UInt16(key.count))
            writer.write(key)
            writer.write(value)
        case .remove(let key):
            writer.write(UInt16(key.count))
            writer.write(key)
        case .unknown: break
        }
        return writer.bytes
    }

    /// Appends the encoded record.
    ///
    /// - Parameter offset: The position of the record in its file.
    package func append(to bytes: inout [UInt8], incarnation: Incarnation, generation: UInt64, offset: UInt64) {
        let payload = payload
        var writer = ByteWriter()
        writer.write(UInt32(payload.count))
        writer.write(payload.withUnsafeBytes { Self.checksum(incarnation, generation, offset, type, $0) })
        writer.write(type)
        bytes += writer.bytes
        bytes += payload
    }

    /// Decodes the bytes of a log, the first of which is at `start`. Returns `nil` if any record is damaged.
    package static func records(
        _ bytes: [UInt8],
        from start: UInt64,
        incarnation: Incarnation,
        generation: UInt64
    ) -> [JournalRecord]? {
        bytes.withUnsafeBytes { buffer in
            var reader = ByteReader(buffer)
            var records: [JournalRecord] = []
            while reader.remaining > 0 {
                let offset = start + UInt64(reader.position)
                let record = read(&reader, incarnation: incarnation, generation: generation, offset: offset)
                guard let record else { return nil }
                records.append(record)
            }
            return records
        }
    }

    /// Decodes the record at the reader's position and advances past it. Returns `nil` if it is damaged or truncated.
    static func read(
        _ reader: inout ByteReader,
        incarnation: Incarnation,
        generation: UInt64,
        offset: UInt64
    ) -> JournalRecord? {
        guard let length = reader.read(UInt32.self), length <= payloadLimit,
            let checksum = reader.read(UInt32.self),
            let type = reader.read(UInt16.self),
            let payload = reader.read(count: Int(length)),
            checksum == Self.checksum(incarnation, generation, offset, type, payload)
        else { return nil }
        var inner = ByteReader(payload)
        switch type {
        case 1:
            guard let count = inner.read(UInt16.self), let key = inner.read(count: Int(count)) else { return nil }
            let value = inner.read(count: inner.remaining).map { Array($0) } ?? []
            return .put(key: Array(key), value: value)
        case 2:
            guard let count = inner.read(UInt16.self), let key = inner.read(count: Int(count)) else { return nil }
            return .remove(key: Array(key))
        default:
            return .unknown(type: type)
        }
    }

    private static func checksum(
        _ incarnation: Incarnation,
        _ generation: UInt64,
        _ offset: UInt64,
        _ type: UInt16,
        _ payload: UnsafeRawBufferPointer
    ) -> UInt32 {
        var crc = CRC32C.State()
        crc.update(incarnation.high.byteSwapped)
        crc.update(incarnation.low.byteSwapped)
        crc.update(generation)
        crc.update(offset)
        withUnsafeBytes(of: type.littleEndian) { crc.update($0) }
        crc.update(payload)
        return crc.value
    }
}
