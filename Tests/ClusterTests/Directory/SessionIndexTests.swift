import Cluster
import Formats
import HopProtocol
import Testing

@Suite("The index of attachments")
struct SessionIndexTests {
    private final class Upstream: Sendable {}

    private func row(
        _ id: UInt64,
        token: String = "t",
        agent: String = "demo",
        services: [String] = ["web"],
        hosts: [String] = [],
        specificity: Int = .max
    ) throws -> SessionRow {
        let info = AttachmentInfo(id: id, tokenID: token, agent: agent, instance: "i", run: .random(), number: 1)
        let claims = try hosts.map { HostClaim(host: try HostPattern($0), specificity: specificity) }
        return SessionRow(info, services: services, claims: claims, upstream: Upstream())
    }

    private func ids(_ rows: some Sequence<SessionRow>) -> [UInt64] { rows.map(\.info.id).sorted() }

    @Test("Attachments are found by the name of the token and the service")
    func services() throws {
        var index = SessionIndex()
        let rows = [try row(1, services: ["web", "api"]), try row(2, token: "u"), try row(3, agent: "else")]
        for row in rows {
            let transfers = index.insert(row)
            #expect(transfers.isEmpty)
        }
        #expect(ids(index.rows(agent: "demo", service: "web")) == [1, 2])
        #expect(ids(index.rows(agent: "demo", service: "api")) == [1])
        #expect(ids(index.rows(agent: "else", service: "web")) == [3])
        let before = index
        _ = index.remove(rows[0])
        #expect(ids(index.rows(agent: "demo", service: "web")) == [2])
        #expect(index.rows(agent: "demo", service: "api").isEmpty)
        // A copy that a request reads does not change.
        #expect(ids(before.rows(agent: "demo", service: "api")) == [1])
    }

    @Test("A host leads to the attachments that offer it, and to no other one of the token")
    func hosts() throws {
        var index = SessionIndex()
        let one = try row(1, hosts: ["a.test"])
        let two = try row(2, hosts: ["b.test", "*.c.test"])
        let both = try row(3, hosts: ["a.test", "b.test"])
        for row in [one, two, both] { _ = index.insert(row) }
        #expect(ids(index.rows(host: .exact("a.test"))) == [1, 3])
        #expect(ids(index.rows(host: .exact("b.test"))) == [2, 3])
        #expect(index.find("x.c.test")?.host == .below("c.test") && index.find("x.c.test")?.row === two)
        #expect(index.find("c.test") == nil && index.find("z.test") == nil && index.hostCount == 3)
        _ = index.remove(both)
        #expect(ids(index.rows(host: .exact("a.test"))) == [1])
        let transfers = index.remove(one)
        #expect(transfers == [.init(host: .exact("a.test"), from: "t", to: nil)])
        #expect(index.find("a.test") == nil && index.hostCount == 2 && index.contested == 0)
    }

    @Test("The most specific pattern wins: the host itself, then the longest wildcard")
    func specific() throws {
        var index = SessionIndex()
        for (id, host) in ["*.test", "*.a.test", "x.a.test"].enumerated() {
            _ = index.insert(try row(UInt64(id), hosts: [host]))
        }
        #expect(["x.a.test", "y.a.test", "z.y.a.test", "b.test"].map { index.find($0)?.row.info.id } == [2, 1, 1, 0])
    }

    @Test("A host belongs to the token that names it most specifically, then to the lower id, in any order of arrival")
    func owners() throws {
        let host = HostPattern.exact("a.test")
        // In the order of their precedence.
        let rows = [
            try row(1, token: "m", hosts: ["a.test"]),
            try row(2, token: "n", hosts: ["a.test"]),
            try row(3, token: "a", hosts: ["a.test"], specificity: 6),
            try row(4, token: "b", hosts: ["a.test"], specificity: 4),
        ]
        for seed in 0..<24 {
            var order = rows
            var number = seed
            for index in order.indices {
                order.swapAt(index, index + number % (order.count - index))
                number /= order.count - index
            }
            var index = SessionIndex()
            for (count, row) in order.enumerated() {
                let before = index.owner(of: host)?.tokenID
                let transfers = index.insert(row)
                let after = try #require(index.owner(of: host)).tokenID
                #expect(after == order[...count].min { $0.info.id < $1.info.id }?.info.tokenID)
                #expect(transfers == (before == after ? [] : [.init(host: host, from: before, to: after)]))
                #expect(index.contested == count)
            }
            #expect(ids(index.rows(host: host, tokenID: "b")) == [4])
            for (gone, row) in rows.enumerated() {
                #expect(ids(index.rows(host: host)) == [row.info.id])
                let next = gone + 1 < rows.count ? rows[gone + 1].info.tokenID : nil
                let transfers = index.remove(row)
                #expect(transfers == [.init(host: host, from: row.info.tokenID, to: next)])
            }
            #expect(index.hostCount == 0 && index.contested == 0)
        }
    }

    @Test("Rows are found by position, and removed again, however many there are")
    func many() throws {
        var index = SessionIndex()
        let rows = try (0..<10_000).map { try row(UInt64($0), hosts: ["h\($0).test", "all.test"]) }
        for row in rows { _ = index.insert(row) }
        let found = index.rows(agent: "demo", service: "web")
        #expect(found.count == rows.count && Set(found.indices.map { found[$0] }).count == rows.count)
        #expect(index.rows(host: .exact("all.test")).count == rows.count && index.hostCount == rows.count + 1)
        for row in rows { _ = index.remove(row) }
        #expect(index.rows(agent: "demo", service: "web").isEmpty && index.hostCount == 0)
        #expect(found.count == rows.count)
    }
}

extension SessionIndex {
    /// The rows of the owner of exactly this pattern.
    func rows(host: HostPattern) -> [SessionRow] {
        owner(of: host).map { Array(rows(host: host, tokenID: $0.tokenID)) } ?? []
    }
}
