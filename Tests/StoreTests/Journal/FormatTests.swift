import Formats
import NIOCore
import Store
import TestSupport
import Testing

/// Bytes that were generated independently of this code, by a script that follows the description of the formats. They
/// never change, because each release has to read what earlier ones wrote.
@Suite("Golden formats")
struct FormatTests {
    static let incarnation = Incarnation("01ARZ3NDEKTSV4RRFFQ69G5FAV")!
    static let peer = Incarnation(high: 0x0189_0a5d_6c3f_0011, low: 0x2233_4455_6677_8899)
    static let heartbeat: Heartbeat = {
        var heartbeat = Heartbeat(incarnation: Self.incarnation, sequence: 7, state: .active)
        (heartbeat.generation, heartbeat.logLength, heartbeat.published) = (3, 4_096, 41)
        (heartbeat.seen, heartbeat.flags) = (Mark([Self.peer: 17]), .rowsNewerThanLog)
        (heartbeat.sessions, heartbeat.load) = (12, 250)
        return heartbeat
    }()
    static let heartbeatBytes = hex(
        "4847424541540d0a0100700001563e3ab5d3d6764c61efb99302bd5b0700000000000000020000000000000003000000000000000010"
            + "00000000000029000000000000000100000001890a5d6c3f001122334455667788991100000000000000010000000c000000fa00"
            + "000043d4b6a6"
    )
    static let snapshotBytes = hex(
        "4847534e41500d0a0100000001563e3ab5d3d6764c61efb99302bd5b03000000000000000100000000000000e0d8bbd4180000009b44"
            + "e99d0100050072756e2d317b2273657276696365223a22776562227d"
    )
    /// A put, a record of type 9, a removal.
    static let logBytes = hex(
        "18000000233453830100050072756e2d317b2273657276696365223a22776562227d060000004883c484090066757475726507000000"
            + "c0dd86db0200050072756e2d31"
    )
    static let leaseBytes = hex(
        "48474c45415345320200010060ea0000090000000000000001563e3ab5d3d6764c61efb99302bd5b05000000000000006761"
            + "74657761792d32202870726f6365737320313729000000000000000000000000000000000000000000000000000000000000"
            + "0000000000000000000000007771f2bf"
    )
    static let table = JournalTable(rows: [bytes("run-1"): bytes(#"{"service":"web"}"#)])

    /// Returns the table with a log applied to it, or `nil` if the log is damaged.
    private func applied(
        _ log: [UInt8],
        from start: UInt64 = 0,
        of incarnation: Incarnation = incarnation,
        generation: UInt64 = 3,
        to table: JournalTable = JournalTable()
    ) -> JournalTable? {
        var table = table
        let records = JournalRecord.records(log, from: start, incarnation: incarnation, generation: generation)
        guard let records else { return nil }
        table.apply(.records(records))
        return table
    }

    @Test("Members that have published nothing displace none that have from the list of a heartbeat")
    func seen() throws {
        var heartbeat = Heartbeat(incarnation: randomIncarnation(), sequence: 1)
        let old = Incarnation(milliseconds: 1) { 1 }
        var counts: [Incarnation: UInt64] = [old: 7]
        for number in 2..<300 { counts[Incarnation(milliseconds: UInt64(number)) { 1 }] = 0 }
        heartbeat.seen = Mark(counts)
        let decoded = heartbeat.encoded().withUnsafeBytes { Heartbeat(slot: $0) }
        #expect(decoded?.seen == Mark([old: 7]))
    }

    @Test("A heartbeat")
    func heartbeats() {
        #expect(Self.heartbeat.encoded() == Self.heartbeatBytes)
        #expect(Self.heartbeatBytes.withUnsafeBytes { Heartbeat(slot: $0) } == Self.heartbeat)
    }

    @Test("A snapshot")
    func snapshots() {
        let encoded = JournalSnapshot.encode(Self.table, incarnation: Self.incarnation, generation: 3)
        #expect(encoded == Self.snapshotBytes)
        let decoded = JournalSnapshot.decode(Self.snapshotBytes, incarnation: Self.incarnation, generation: 3)
        #expect(decoded == Self.table)
        #expect(JournalSnapshot.decode(Self.snapshotBytes, incarnation: Self.incarnation, generation: 4) == nil)
        #expect(JournalSnapshot.decode(Self.snapshotBytes, incarnation: Self.peer, generation: 3) == nil)
    }

    @Test("A log, in which unknown records are skipped")
    func logs() {
        let put = Array(Self.logBytes.prefix(34))
        #expect(applied(put) == Self.table)
        #expect(applied(Array(Self.logBytes.dropFirst(34)), from: 34, to: Self.table) == JournalTable())
        // The same bytes at another position, in another generation or of another replica are not valid records.
        #expect(applied(put, from: 1) == nil)
        #expect(applied(put, generation: 2) == nil)
        #expect(applied(put, of: Self.peer) == nil)
        var written: [UInt8] = []
        JournalRecord.put(key: bytes("run-1"), value: bytes(#"{"service":"web"}"#))
            .append(to: &written, incarnation: Self.incarnation, generation: 3, offset: 0)
        #expect(written == put)
    }

    @Test("A lease")
    func leases() {
        let record = LeaseRecord(
            epoch: 9,
            holder: Self.incarnation,
            name: "gateway-2\n (process 17)",
            timeToLive: .seconds(60),
            counter: 5,
            isReleased: true
        )
        #expect(record.encoded() == Self.leaseBytes)
        #expect(Self.leaseBytes.withUnsafeBytes { LeaseRecord($0) } == record)
    }

    @Test("A later release may add fields to a heartbeat")
    func laterHeartbeat() {
        var later = Array(Self.heartbeatBytes.dropLast(4))
        later += [1, 2, 3, 4, 5, 6, 7, 8]
        later[10] = UInt8(later.count + 4)
        let checksum = CRC32C.checksum(later)
        withUnsafeBytes(of: checksum.littleEndian) { later += Array($0) }
        #expect(later.withUnsafeBytes { Heartbeat(slot: $0) } == Self.heartbeat)
    }

    @Test("Every flipped bit is detected, in every format")
    func damage() {
        for bit in 0..<Self.heartbeatBytes.count * 8 {
            var damaged = Self.heartbeatBytes
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(damaged.withUnsafeBytes { Heartbeat(slot: $0) } == nil)
        }
        for bit in 0..<Self.leaseBytes.count * 8 {
            var damaged = Self.leaseBytes
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(damaged.withUnsafeBytes { LeaseRecord($0) } == nil)
        }
        for bit in 0..<Self.snapshotBytes.count * 8 {
            var damaged = Self.snapshotBytes
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(JournalSnapshot.decode(damaged, incarnation: Self.incarnation, generation: 3) == nil)
        }
        for bit in 0..<Self.logBytes.count * 8 {
            var damaged = Self.logBytes
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(applied(damaged) == nil)
        }
    }

    @Test("Truncated, concatenated or random bytes crash no reader")
    func hostile() {
        var random = SeededGenerator(seed: 4)
        let version = storedFile(bytes("{}"), epoch: 7)
        let samples = [Self.heartbeatBytes, Self.snapshotBytes, Self.logBytes, Self.leaseBytes, version]
        for round in 0..<20_000 {
            var made: [UInt8]
            switch round % 3 {
            case 0:
                made = (0..<Int(random.next() % 300)).map { _ in UInt8(random.next() & 0xff) }
            case 1:
                let sample = samples[Int(random.next() % 5)]
                made = Array(sample.prefix(Int(random.next() % UInt64(sample.count + 1))))
            default:
                made = samples[Int(random.next() % 5)] + samples[Int(random.next() % 5)]
                for _ in 0..<4 { made[Int(random.next() % UInt64(made.count))] = UInt8(random.next() & 0xff) }
            }
            made.withUnsafeBytes { buffer in
                _ = Heartbeat(slot: buffer)
                _ = LeaseRecord(buffer)
            }
            _ = Heartbeat.newest(in: made)
            _ = JournalSnapshot.decode(made, incarnation: Self.incarnation, generation: 3)
            _ = applied(made)
            if let file = try? VersionFile(made, place: "x") { #expect(file.encoded() == made) }
        }
    }

    @Test("A snapshot of 100,000 rows is decoded; the time is printed")
    func large() throws {
        var rows: [[UInt8]: [UInt8]] = [:]
        for number in 0..<100_000 { rows[bytes("run-\(number)")] = [UInt8](repeating: 7, count: 80) }
        let encoded = JournalSnapshot.encode(
            JournalTable(rows: rows),
            incarnation: Self.incarnation,
            generation: 1
        )
        let clock = ContinuousClock()
        var decoded: JournalTable?
        let time = clock.measure {
            decoded = JournalSnapshot.decode(encoded, incarnation: Self.incarnation, generation: 1)
        }
        #expect(decoded?.rows.count == 100_000)
        print("NOTE \(encoded.count) bytes, 100,000 rows decoded in \(time)")
    }
}
