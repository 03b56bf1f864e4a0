import Cluster
import Formats
import Store

private let incarnation = Incarnation(high: 0x0156_3e3a_b5d3_d676, low: 0x4c61_efb9_9302_bd5b)

/// Appends the right checksum, so that inputs get past its verification.
private func checked(_ bytes: [UInt8]) -> [UInt8] {
    bytes + withUnsafeBytes(of: CRC32C.checksum(bytes).littleEndian) { Array($0) }
}

func checkHeartbeat(_ bytes: [UInt8]) {
    for slot in [bytes, checked(bytes)] {
        guard let heartbeat = slot.withUnsafeBytes({ Heartbeat(slot: $0) }) else { continue }
        let again = heartbeat.encoded().withUnsafeBytes { Heartbeat(slot: $0) }
        precondition(again == heartbeat, "encoding changed a heartbeat")
        precondition(
            Heartbeat.newest(in: heartbeat.file())?.heartbeat == heartbeat,
            "a file does not hold its heartbeat"
        )
    }
    _ = Heartbeat.newest(in: bytes)
}

func checkSnapshot(_ bytes: [UInt8]) {
    for snapshot in [bytes, checked(bytes)] {
        let decoded = JournalSnapshot.decode(snapshot, incarnation: incarnation, generation: 3)
        guard let decoded else { continue }
        let written = JournalSnapshot.encode(decoded, incarnation: incarnation, generation: 3)
        let again = JournalSnapshot.decode(written, incarnation: incarnation, generation: 3)
        precondition(again == decoded, "encoding changed a snapshot")
    }
}

func checkLog(_ bytes: [UInt8]) {
    var table = JournalTable()
    let records = JournalRecord.records(bytes, from: 0, incarnation: incarnation, generation: 3)
    guard let records else { return }
    table.apply(.records(records))
    precondition(table.rows.count <= bytes.count, "more rows than bytes")
}

func checkLease(_ bytes: [UInt8]) {
    let whole = checked(Array(bytes.prefix(LeaseRecord.size - 4)))
    for record in [bytes, whole] {
        guard let lease = record.withUnsafeBytes({ LeaseRecord($0) }) else { continue }
        let again = lease.encoded().withUnsafeBytes { LeaseRecord($0) }
        precondition(again == lease, "encoding changed a lease")
        precondition(lease.name.utf8.allSatisfy { (0x20...0x7e).contains($0) }, "a name for a terminal")
        precondition(lease.timeToLive <= LeaseRecord.longestTimeToLive, "a time to live without end")
    }
}

func checkVersion(_ bytes: [UInt8]) {
    guard let file = try? VersionFile(bytes, place: "x") else { return }
    // An epoch that no lease gets to counts as 0.
    precondition(file.encoded() == bytes || file.epoch == 0, "encoding changed the file of a version")
    precondition((try? VersionFile(file.encoded(), place: "x")) == file, "a version is not read as it was written")
}

func checkRow(_ bytes: [UInt8]) {
    guard let row = SessionRecord(key: SessionRecord.key(1), value: bytes) else { return }
    let again = SessionRecord(key: SessionRecord.key(1), value: row.value)
    precondition(again == row, "encoding changed a row")
}
