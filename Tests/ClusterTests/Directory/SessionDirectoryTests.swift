import Cluster
import Formats
import HopProtocol
import Store
import TestSupport
import Testing

private final class Upstream: Sendable {}

private func record(
    _ id: UInt64,
    token: String = "aaaaaaaaaaaaaaaa",
    services: [String] = ["web"],
    hosts: [String] = []
) throws -> SessionRecord {
    let info = AttachmentInfo(
        id: id,
        tokenID: token,
        agent: "demo",
        instance: "pod-\(id)",
        run: RunID(rawValue: 7 << 64 | UInt128(id)),
        number: 3
    )
    return SessionRecord(info, services: services, hosts: try hosts.map { try HostPattern($0) })
}

extension SessionRecord {
    fileprivate var key: [UInt8] { Self.key(info.id) }
    fileprivate var put: JournalRecord { .put(key: key, value: value) }
}

@Suite("Rows of attachments")
struct SessionRecordTests {
    @Test("The format of a row is fixed")
    func golden() throws {
        let row = try record(0x0102, services: ["web", "api"], hosts: ["a.test", "*.b.test", "::1"])
        #expect(Hex.string(row.key) == "0201000000000000")
        let parts = [
            "01", "02010000000000000700000000000000", "0300000000000000", "10" + "61616161616161616161616161616161",
            "0464656d6f", "07706f642d323538", "02", "03776562", "03617069", "0300", "06612e74657374",
            "082a2e622e74657374", "033a3a31",
        ]
        #expect(Hex.string(row.value) == parts.joined())
        let back = SessionRecord(key: row.key, value: row.value)
        #expect(back?.info.id == 0x0102 && back?.info.run == row.info.run && back?.info.number == 3)
        #expect(back?.info.instance == "pod-258" && back?.services == row.services && back?.hosts == row.hosts)
        // A later release appends fields.
        #expect(SessionRecord(key: row.key, value: row.value + [1, 2, 3]) == back)
    }

    @Test("A row that no replica writes is refused: every prefix, other formats, empty names, duplicates, bad hosts")
    func refused() throws {
        let row = try record(1, services: ["web", "api"], hosts: ["a.test", "*.b.test"])
        for count in row.value.indices {
            #expect(SessionRecord(key: row.key, value: Array(row.value[..<count])) == nil, "\(count)")
        }
        for key in [[], [UInt8](repeating: 1, count: 7), [UInt8](repeating: 1, count: 9)] {
            #expect(SessionRecord(key: key, value: row.value) == nil)
        }
        func changed(_ body: (inout SessionRecord) -> Void) -> SessionRecord? {
            var changed = row
            body(&changed)
            return SessionRecord(key: changed.key, value: changed.value)
        }
        #expect(changed { _ in } == row)
        #expect(changed { $0.services = [] } == nil && changed { $0.services = ["web", "web"] } == nil)
        #expect(changed { $0.info.instance = "" } == nil && changed { $0.hosts = [.exact("A.test")] } == nil)
        #expect(changed { $0.hosts = [.below("b.test"), .exact("*.b.test")] } == nil)
        #expect(changed { $0.hosts = [.exact("not a host")] } == nil)
        var bytes = row.value
        bytes[0] = 2
        #expect(SessionRecord(key: row.key, value: bytes) == nil)
        let long = row.value + [UInt8](repeating: 0, count: JournalRecord.valueLimit)
        #expect(SessionRecord(key: row.key, value: long) == nil)
    }

    @Test("Random damage is decoded or refused, and never a trap")
    func random() throws {
        let value = try record(1, services: ["web", "api"], hosts: ["a.test", "*.b.test"]).value
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            var bytes = value
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                bytes[Int.random(in: bytes.indices, using: &generator)] = .random(in: .min ... .max, using: &generator)
            }
            let row = SessionRecord(key: SessionRecord.key(1), value: bytes)
            #expect(row == nil || row?.services.isEmpty == false)
        }
    }
}

@Suite("The directory of the cluster's attachments")
struct SessionDirectoryTests {
    private let one = Incarnation(high: 1, low: 1)
    private let two = Incarnation(high: 2, low: 2)
    private let toOne = Upstream()
    private let toTwo = Upstream()

    private func ids(_ rows: some Sequence<SessionRow>) -> [UInt64] { rows.map(\.info.id).sorted() }
    private func allowed(_ token: String, _ host: HostPattern) -> Int? { host.specificity }

    @Test("Rows of several replicas are found by service and host, with the way to their replica")
    func rows() throws {
        var directory = SessionDirectory()
        let first = [try record(1, hosts: ["a.test"]), try record(2, services: ["api"])]
        directory.apply(.all(JournalTable(first)), of: one, upstream: toOne, allowed)
        directory.apply(.records([try record(1, hosts: ["a.test"]).put]), of: two, upstream: toTwo, allowed)
        #expect(directory.count == 3 && directory.count(of: one) == 2)
        #expect(directory.removeTransfers() == [.init(host: .exact("a.test"), from: nil, to: "aaaaaaaaaaaaaaaa")])
        #expect(directory.removeTransfers().isEmpty)
        let found = directory.index.rows(host: .exact("a.test"))
        #expect(Set(found.map { ObjectIdentifier($0.upstream) }) == [ObjectIdentifier(toOne), ObjectIdentifier(toTwo)])
        #expect(ids(directory.index.rows(agent: "demo", service: "web")) == [1, 1])
        #expect(ids(directory.index.rows(agent: "demo", service: "api")) == [2])

        // A changed offer, a removal, and what a later release may write.
        let changes: [JournalRecord] = [
            try record(2, services: ["web"], hosts: ["b.test"]).put, .remove(key: SessionRecord.key(1)),
            .unknown(type: 7),
            .remove(key: SessionRecord.key(9)), .remove(key: [1]),
        ]
        directory.apply(.records(changes), of: one, upstream: toOne, allowed)
        #expect(ids(directory.index.rows(host: .exact("a.test"))) == [1])
        #expect(ids(directory.index.rows(host: .exact("b.test"))) == [2])
        #expect(directory.index.rows(agent: "demo", service: "api").isEmpty)

        #expect(directory.removeTransfers() == [.init(host: .exact("b.test"), from: nil, to: "aaaaaaaaaaaaaaaa")])
        // The same table again changes no owner.
        let table = JournalTable([try record(1, hosts: ["b.test"])])
        for _ in 0..<2 { directory.apply(.all(table), of: one, upstream: toOne, allowed) }
        #expect(directory.removeTransfers().isEmpty)

        // A whole table replaces the rows of its replica only.
        directory.apply(.all(JournalTable([try record(5)])), of: one, upstream: toOne, allowed)
        #expect(ids(directory.index.rows(agent: "demo", service: "web")) == [1, 5])
        directory.remove(one)
        directory.remove(two)
        #expect(directory.count == 0 && directory.index.hostCount == 0)
        #expect(directory.index.rows(agent: "demo", service: "web").isEmpty)
    }

    @Test("A hundred thousand rows are loaded at once; each is found, and all are gone with their replica")
    func size() throws {
        let count: UInt64 = 100_000
        var rows: [[UInt8]: [UInt8]] = [:]
        for id in 0..<count {
            let row = try record(id, token: "token\(id % 1_000)abcdefg", hosts: ["host-\(id).apps.example.test"])
            rows[row.key] = row.value
        }
        let table = JournalTable(rows: rows)
        var directory = SessionDirectory()
        let clock = ContinuousClock()
        let load = clock.measure { directory.apply(.all(table), of: one, upstream: toOne, allowed) }
        #expect(directory.count == Int(count) && directory.index.hostCount == Int(count))
        var found = 0
        var times: [Duration] = []
        for id in 0..<count {
            let host = "host-\(id).apps.example.test"
            times.append(clock.measure { found += directory.index.find(host) == nil ? 0 : 1 })
        }
        #expect(found == Int(count))
        times.sort()
        // Another row, while a request reads the index of before.
        let index = directory.index
        let change = clock.measure {
            try? directory.apply(.records([record(count).put]), of: one, upstream: toOne, allowed)
        }
        #expect(index.hostCount == Int(count))
        print(
            "NOTE 100,000 rows loaded in \(load); a look-up takes \(times[50_000]), "
                + "p99 \(times[99_000]); a change \(change)"
        )
        directory.remove(one)
        #expect(directory.count == 0 && directory.index.hostCount == 0)
    }

    @Test("A row that cannot be read is counted, and the attachment that it described is gone")
    func damaged() throws {
        var directory = SessionDirectory()
        directory.apply(.records([try record(1).put, try record(2).put]), of: one, upstream: toOne, allowed)
        let bad = JournalRecord.put(key: SessionRecord.key(1), value: [1, 2, 3])
        directory.apply(.records([bad, .put(key: [1], value: [])]), of: one, upstream: toOne, allowed)
        #expect(directory.refused == 2 && directory.count == 1)
        #expect(ids(directory.index.rows(agent: "demo", service: "web")) == [2])
    }

    @Test("The hosts of a silent replica pass to others, and come back with it; its changes meanwhile are kept")
    func suspended() throws {
        var directory = SessionDirectory()
        let host = HostPattern.exact("a.test")
        directory.apply(.records([try record(1, token: "a", hosts: ["a.test"]).put]), of: one, upstream: toOne, allowed)
        directory.apply(.records([try record(1, token: "b", hosts: ["a.test"]).put]), of: two, upstream: toTwo, allowed)
        _ = directory.removeTransfers()
        directory.suspend(one)
        directory.suspend(one)
        #expect(directory.removeTransfers() == [.init(host: host, from: "a", to: "b")])
        #expect(directory.count == 2 && ids(directory.index.rows(agent: "demo", service: "web")) == [1])
        let changes = [try record(2, token: "a", hosts: ["c.test"]).put]
        directory.apply(.records(changes), of: one, upstream: toOne, allowed)
        directory.update(tokens: ["a"]) { _, host in host.specificity }
        #expect(directory.index.owner(of: .exact("c.test")) == nil && directory.removeTransfers().isEmpty)
        directory.resume(one)
        #expect(directory.index.owner(of: host)?.tokenID == "a")
        #expect(directory.index.owner(of: .exact("c.test"))?.tokenID == "a")
        directory.suspend(one)
        directory.remove(one)
        directory.remove(two)
        #expect(directory.count == 0 && directory.index.hostCount == 0)
        // A replica that comes back after it was removed is not silent any more.
        directory.apply(.records([try record(1, token: "a", hosts: ["a.test"]).put]), of: one, upstream: toOne, allowed)
        #expect(directory.index.owner(of: host)?.tokenID == "a")
    }

    @Test("A host that the token does not allow leads nowhere, until the token allows it")
    func rights() throws {
        var directory = SessionDirectory()
        let rows = [
            try record(1, token: "t", hosts: ["a.test", "b.test"]), try record(2, token: "u", hosts: ["a.test"]),
        ]
        directory.apply(.records(rows.map(\.put)), of: one, upstream: toOne) { token, host in
            token == "t" && host == .exact("a.test") ? nil : host.specificity
        }
        #expect(
            directory.index.owner(of: .exact("a.test"))?.tokenID == "u"
                && directory.index.owner(of: .exact("b.test"))?.tokenID == "t"
        )
        directory.update(tokens: ["t", "unknown"], allowed)
        #expect(directory.index.owner(of: .exact("a.test"))?.tokenID == "t")
        directory.update(tokens: ["t"]) { _, _ in nil }
        #expect(
            directory.index.owner(of: .exact("a.test"))?.tokenID == "u"
                && directory.index.owner(of: .exact("b.test"))?.tokenID == nil
        )
        #expect(ids(directory.index.rows(agent: "demo", service: "web")) == [1, 2])
    }
}

extension JournalTable {
    fileprivate init(_ records: [SessionRecord]) {
        self.init(rows: Dictionary(uniqueKeysWithValues: records.map { ($0.key, $0.value) }))
    }
}
