import Formats

/// The content of `locks/<name>/<epoch>`: two slots of 52 bytes, at offsets 0 and 512, written in place alternately.
/// The valid slot with the larger counter is the current one. Little-endian:
///
/// ```
///  0  magic "HGLEASE1"      16  epoch u64             40  counter u64
///  8  format u16 (1)        24  holder, 128 random    48  crc32c of bytes 0..<48, u32
/// 10  flags u16 (1: released)   bits of the process
/// 12  zero u32
/// ```
package struct LeaseRecord: Equatable, Sendable {
    package static let size = 52
    package static let stride: UInt64 = 512
    static let fileSize = 1_024
    private static let magic = Array("HGLEASE1".utf8)

    package var epoch: UInt64
    /// Random bits that identify the holder, so that it recognises its own file.
    package var holder: Incarnation
    /// The number of writes by the holder: 1 when the file is created, one more with each attempted renewal.
    package var counter: UInt64
    package var isReleased: Bool

    package init(epoch: UInt64, holder: Incarnation, counter: UInt64, isReleased: Bool) {
        self.epoch = epoch
        self.holder = holder
        self.counter = counter
        self.isReleased = isReleased
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(Self.magic)
        writer.write(UInt16(1))
        writer.write(UInt16(isReleased ? 1 : 0))
        writer.write(UInt32(0))
        writer.write(epoch)
        writer.write(holder)
        writer.write(counter)
        writer.write(CRC32C.checksum(writer.bytes))
        return writer.bytes
    }

    /// The whole file as it is created.
    func file() -> [UInt8] {
        var bytes = encoded()
        bytes += [UInt8](repeating: 0, count: Self.fileSize - bytes.count)
        return bytes
    }

    /// Decodes a slot. Fails unless it has this format and a valid checksum.
    package init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= Self.size, bytes.prefix(8).elementsEqual(Self.magic) else { return nil }
        var crc = CRC32C.State()
        crc.update(UnsafeRawBufferPointer(rebasing: bytes[..<48]))
        var reader = ByteReader(bytes, at: 8)
        guard let format = reader.read(UInt16.self), format == 1,
            let flags = reader.read(UInt16.self),
            reader.read(UInt32.self) != nil,
            let epoch = reader.read(UInt64.self),
            let holder = reader.readIncarnation(),
            let counter = reader.read(UInt64.self),
            let checksum = reader.read(UInt32.self), checksum == crc.value
        else { return nil }
        self.init(epoch: epoch, holder: holder, counter: counter, isReleased: flags & 1 == 1)
    }

    /// Returns the valid record with the larger counter and the number of the other slot.
    static func newest(in file: [UInt8]) -> (record: LeaseRecord, freeSlot: UInt64)? {
        file.withUnsafeBytes { bytes in
            let records = (0..<2).compactMap { slot -> (record: LeaseRecord, freeSlot: UInt64)? in
                let start = slot * Int(stride)
                guard bytes.count >= start + size else { return nil }
                return LeaseRecord(UnsafeRawBufferPointer(rebasing: bytes[start..<start + size])).map {
                    ($0, UInt64(1 - slot))
                }
            }
            return records.max { $0.record.counter < $1.record.counter }
        }
    }
}
