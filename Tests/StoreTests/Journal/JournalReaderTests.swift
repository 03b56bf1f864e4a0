import NIOCore
import Store
import TestSupport
import Testing

@Suite("Reading the journal of another member")
struct JournalReaderTests {
    @Test("Rows are returned as a whole once, then only what has changed, and no file is read while nothing has")
    func changes() throws {
        let scratch = ScratchFolder()
        let files = CountingFileSystem(files: try scratch.posixFiles())
        let name = randomIncarnation()
        let writer = JournalWriter(volume: try scratch.volume())
        for number in 0..<1_000 { writer.put(key: bytes("row \(number)"), value: bytes("\(number)")) }
        try writer.begin(as: name, info: [1], now: .now())
        let reader = JournalReader(volume: Volume(files: files), replica: name)
        guard case .all(let table)? = try reader.poll() else {
            Issue.record("no rows")
            return
        }
        #expect(table == writer.table && table.rows.count == 1_000)
        writer.put(key: bytes("row 7"), value: bytes("seven"))
        writer.remove(key: bytes("row 8"))
        #expect(try writer.tick(now: writer.nextTick) == .committed)
        #expect(
            try reader.poll()
                == .records([.put(key: bytes("row 7"), value: bytes("seven")), .remove(key: bytes("row 8"))])
        )
        files.counts.reset()
        #expect(try writer.tick(now: writer.nextTick) == .committed)
        #expect(try reader.poll() == nil)
        #expect(reader.lastHeartbeat?.heartbeat.sequence == writer.heartbeat.sequence)
        #expect(files.counts.all == ["open replicas/\(name)/hb": 1])
    }
}
