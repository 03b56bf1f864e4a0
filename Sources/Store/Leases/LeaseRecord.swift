import Formats
import Glibc
package import NIOCore

/// The record of a lease's holder, in the file `locks/<name>/<epoch>`: two slots, at offsets 0 and 512, written in
/// place alternately. The valid slot with the larger counter is the current one. Little-endian:
///
/// ```
///  0  magic "HGLEASE2"      16  epoch u64             48  the holder's name for people,
///  8  format u16 (2)        24  holder, 128 random        64 bytes, padded with zeros
/// 10  flags u16 (1: released)   bits of the process  112  crc32c of bytes 0..<112, u32
/// 12  time to live in ms, u32   40  counter u64
/// ```
package struct LeaseRecord: Equatable, Sendable {
    package static let size = 116
    package static let stride: UInt64 = 512
    static let fileSize = 1_024
    /// The longest time to live that a waiting process believes.
    package static let longestTimeToLive = TimeAmount.minutes(10)
    private static let magic = Array("HGLEASE2".utf8)
    private static let nameSize = 64
    private static let checksummed = 112

    package var epoch: UInt64
    /// Random bits that identify the holder, so that it recognises its own file.
    package var holder: Incarnation
    /// The holder's host and process, for people: at most 64 printable ASCII characters.
    package let name: String
    /// The time without a renewal after which the holder counts as dead.
    package let timeToLive: TimeAmount
    /// The number of writes by the holder: 1 when the file is created, one more with each attempted renewal.
    package var counter: UInt64
    package var isReleased: Bool

    package init(
        epoch: UInt64,
        holder: Incarnation,
        name: String,
        timeToLive: TimeAmount,
        counter: UInt64,
        isReleased: Bool
    ) {
        self.epoch = epoch
        self.holder = holder
        self.name = Self.printable(name.utf8)
        self.timeToLive = min(timeToLive, Self.longestTimeToLive)
        self.counter = counter
        self.isReleased = isReleased
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(Self.magic)
        writer.write(UInt16(2))
        writer.write(UInt16(isReleased ? 1 : 0))
        writer.write(UInt32(clamping: timeToLive.nanoseconds / 1_000_000))
        writer.write(epoch)
        writer.write(holder)
        writer.write(counter)
        writer.write(Array(name.utf8) + [UInt8](repeating: 0, count: Self.nameSize - name.utf8.count))
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
        crc.update(UnsafeRawBufferPointer(rebasing: bytes[..<Self.checksummed]))
        var reader = ByteReader(bytes, at: 8)
        guard let format = reader.read(UInt16.self), format == 2,
            let flags = reader.read(UInt16.self),
            let milliseconds = reader.read(UInt32.self),
            let epoch = reader.read(UInt64.self),
            let holder = reader.readIncarnation(),
            let counter = reader.read(UInt64.self)
        else { return nil }
        var end = ByteReader(bytes, at: Self.checksummed)
        guard let checksum = end.read(UInt32.self), checksum == crc.value else { return nil }
        self.init(
            epoch: epoch,
            holder: holder,
            name: Self.printable(bytes[(Self.checksummed - Self.nameSize)..<Self.checksummed]),
            timeToLive: .milliseconds(Int64(milliseconds)),
            counter: counter,
            isReleased: flags & 1 == 1
        )
    }

    /// The host and the number of this process.
    static var processName: String {
        var name = [CChar](repeating: 0, count: 48)
        gethostname(&name, name.count - 1)
        let host = String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        return "\(host) (process \(getpid()))"
    }

    private static func printable(_ bytes: some Sequence<UInt8>) -> String {
        String(decoding: bytes.filter { (0x20...0x7e).contains($0) }.prefix(nameSize), as: UTF8.self)
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
