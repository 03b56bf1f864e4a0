import Formats

/// The rows of one replica. Keys and values are opaque bytes, which the directory of sessions defines.
package struct JournalTable: Equatable, Sendable {
    package private(set) var rows: [[UInt8]: [UInt8]]

    package init(rows: [[UInt8]: [UInt8]] = [:]) {
        self.rows = rows
    }

    package mutating func apply(_ record: JournalRecord) {
        switch record {
        case .put(let key, let value): rows[key] = value
        case .remove(let key): rows[key] = nil
        case .unknown: break
        }
    }
}

/// The file format of a whole table, `s.<gen>.snap`: a header, and a put record for each row.
///
/// ```
///  0  magic "HGSNAP\r\n" · 8 format u16 (1) · 10 zero u16 · 12 incarnation 16 B · 28 gen u64 · 36 rows u64
/// 44  crc32c u32 of bytes 0..<44 · 48 records
/// ```
package enum JournalSnapshot {
    package static let headSize = 48
    private static let magic = Array("HGSNAP\r\n".utf8)

    package static func encode(_ table: JournalTable, incarnation: Incarnation, generation: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        writer.write(magic)
        writer.write(UInt16(1))
        writer.write(UInt16(0))
        writer.write(incarnation)
        writer.write(generation)
        writer.write(UInt64(table.rows.count))
        writer.write(CRC32C.checksum(writer.bytes))
        var bytes = writer.bytes
        for (key, value) in table.rows {
            let offset = UInt64(bytes.count)
            JournalRecord.put(key: key, value: value)
                .append(to: &bytes, incarnation: incarnation, generation: generation, offset: offset)
        }
        return bytes
    }

    /// Decodes a snapshot. Returns `nil` unless it is undamaged and of this incarnation and generation.
    package static func decode(_ bytes: [UInt8], incarnation: Incarnation, generation: UInt64) -> JournalTable? {
        bytes.withUnsafeBytes { buffer in
            guard buffer.count >= headSize, buffer.prefix(8).elementsEqual(magic) else { return nil }
            var crc = CRC32C.State()
            crc.update(UnsafeRawBufferPointer(rebasing: buffer[..<44]))
            var reader = ByteReader(buffer, at: 8)
            guard let format = reader.read(UInt16.self), format == 1, reader.read(UInt16.self) != nil,
                reader.readIncarnation() == incarnation,
                reader.read(UInt64.self) == generation,
                let rows = reader.read(UInt64.self),
                reader.read(UInt32.self) == crc.value,
                rows <= UInt64(buffer.count / JournalRecord.headSize)
            else { return nil }
            var table: [[UInt8]: [UInt8]] = [:]
            table.reserveCapacity(Int(rows))
            var read: UInt64 = 0
            while reader.remaining > 0 {
                let offset = UInt64(reader.position)
                let record = JournalRecord.read(
                    &reader,
                    incarnation: incarnation,
                    generation: generation,
                    offset: offset
                )
                guard let record else { return nil }
                read += 1
                if case .put(let key, let value) = record { table[key] = value }
            }
            return read == rows ? JournalTable(rows: table) : nil
        }
    }
}
