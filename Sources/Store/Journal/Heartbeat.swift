import Formats

/// The state that a replica publishes about once a second: one slot of `replicas/<incarnation>/hb`.
///
/// The file has 8 KiB and two slots, at offsets 0 and 4096, written in place alternately, which works on a full disk,
/// unlike a rename. The valid slot with the larger ``sequence`` is the current one. Little-endian:
///
/// ```
///  0  magic "HGBEAT\r\n"     44  gen u64            4 + 24·k after that:
///  8  format u16 (1)         52  log_len u64          flags u32
/// 10  size u16, crc included 60  published u64        sessions u32
/// 12  incarnation 16 B       68  count k of seen u32  load u32
/// 28  seq u64                72  k × (incarnation     crc32c u32 of all before it
/// 36  state u64                      16 B, u64)
/// ```
package struct Heartbeat: Equatable, Sendable {
    /// The phases in the life of a replica.
    package enum State: UInt64, Sendable {
        case starting = 1
        case active = 2
        case draining = 3
        case left = 4
    }

    package struct Flags: OptionSet, Sendable {
        package let rawValue: UInt32

        package init(rawValue: UInt32) {
            self.rawValue = rawValue
        }

        /// The rows that the mesh has are newer than the log.
        package static let rowsNewerThanLog = Flags(rawValue: 1)

        /// The number of times that the replica's information was written, modulo 256.
        var infoRevision: UInt8 {
            get { UInt8(truncatingIfNeeded: rawValue >> 8) }
            set { self = Flags(rawValue: rawValue & ~0xff00 | UInt32(newValue) << 8) }
        }
    }

    package static let slotSize = 4_096
    package static let fileSize = 8_192
    /// The highest number of peers in ``seen``.
    package static let seenLimit = 128
    private static let magic = Array("HGBEAT\r\n".utf8)
    private static let smallest = 72 + 12 + 4

    package var incarnation: Incarnation
    /// The number of heartbeats so far. A replica is alive while this number increases.
    package var sequence: UInt64
    package var state: State
    /// The current generation of snapshot and log.
    package var generation: UInt64 = 1
    /// The valid length of the log in bytes.
    package var logLength: UInt64 = 0
    /// The number of changes that this replica has published in the whole store.
    package var published: UInt64 = 0
    /// The peers' changes that this replica has acted on; ``seenLimit`` peers at most are written.
    package var seen = Mark()
    package var flags: Flags = []
    /// The number of agent sessions at this replica.
    package var sessions: UInt32 = 0
    /// The load in thousandths of the replica's capacity.
    package var load: UInt32 = 0

    package init(incarnation: Incarnation, sequence: UInt64 = 0, state: State = .starting) {
        self.incarnation = incarnation
        self.sequence = sequence
        self.state = state
    }

    package func encoded() -> [UInt8] {
        let seen = seen.counts.sorted { $0.key < $1.key }.suffix(Self.seenLimit)
        var writer = ByteWriter()
        writer.write(Self.magic)
        writer.write(UInt16(1))
        writer.write(UInt16(Self.smallest + 24 * seen.count))
        writer.write(incarnation)
        writer.write(sequence)
        writer.write(state.rawValue)
        writer.write(generation)
        writer.write(logLength)
        writer.write(published)
        writer.write(UInt32(seen.count))
        for (peer, published) in seen {
            writer.write(peer)
            writer.write(published)
        }
        writer.write(flags.rawValue)
        writer.write(sessions)
        writer.write(load)
        writer.write(CRC32C.checksum(writer.bytes))
        return writer.bytes
    }

    /// Decodes a slot. Fails unless it has this format and a valid checksum. A later release may add fields before the
    /// checksum.
    package init?(slot bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= Self.smallest, bytes.prefix(8).elementsEqual(Self.magic) else { return nil }
        var reader = ByteReader(bytes, at: 8)
        guard let format = reader.read(UInt16.self), format == 1,
            let size = reader.read(UInt16.self).map({ Int($0) }), size >= Self.smallest, size <= bytes.count
        else { return nil }
        var crc = CRC32C.State()
        crc.update(UnsafeRawBufferPointer(rebasing: bytes[..<(size - 4)]))
        var end = ByteReader(bytes, at: size - 4)
        guard end.read(UInt32.self) == crc.value,
            let incarnation = reader.readIncarnation(),
            let sequence = reader.read(UInt64.self),
            let state = reader.read(UInt64.self).flatMap({ State(rawValue: $0) }),
            let generation = reader.read(UInt64.self),
            let logLength = reader.read(UInt64.self),
            let published = reader.read(UInt64.self),
            let count = reader.read(UInt32.self).map({ Int($0) }),
            count <= Self.seenLimit, size >= Self.smallest + 24 * count
        else { return nil }
        var seen = Mark()
        for _ in 0..<count {
            guard let replica = reader.readIncarnation(), let number = reader.read(UInt64.self) else { return nil }
            seen.include(number, of: replica)
        }
        guard let flags = reader.read(UInt32.self), let sessions = reader.read(UInt32.self),
            let load = reader.read(UInt32.self)
        else { return nil }
        self.init(incarnation: incarnation, sequence: sequence, state: state)
        (self.generation, self.logLength, self.published, self.seen) = (generation, logLength, published, seen)
        (self.flags, self.sessions, self.load) = (Flags(rawValue: flags), sessions, load)
    }
}

extension Heartbeat {
    /// Returns the newest heartbeat of a file and the offset of the other slot, or `nil` if neither slot is valid.
    package static func newest(in file: [UInt8]) -> (heartbeat: Heartbeat, freeSlot: UInt64)? {
        file.withUnsafeBytes { bytes in
            let slots = [0, slotSize].compactMap { start -> (heartbeat: Heartbeat, freeSlot: UInt64)? in
                guard bytes.count > start else { return nil }
                let slot = bytes[start..<min(start + slotSize, bytes.count)]
                return Heartbeat(slot: UnsafeRawBufferPointer(rebasing: slot)).map {
                    ($0, UInt64(slotSize - start))
                }
            }
            return slots.max { $0.heartbeat.sequence < $1.heartbeat.sequence }
        }
    }

    /// Returns a whole file with this heartbeat in its first slot.
    package func file() -> [UInt8] {
        let slot = encoded()
        return slot + [UInt8](repeating: 0, count: Self.fileSize - slot.count)
    }
}
