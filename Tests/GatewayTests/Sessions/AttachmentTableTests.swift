import Cluster
import Formats
import Gateway
import HopProtocol
import NIOCore
import Testing

@Suite("Attachment table")
struct AttachmentTableTests {
    private final class Upstream: Sendable {}

    private func row(
        _ id: UInt64,
        token: String = "t",
        agent: String = "demo",
        instance: String = "pod",
        run: RunID = RunID(rawValue: 1),
        services: [String] = ["web"],
        hosts: [String] = []
    ) throws -> SessionRow {
        let info = AttachmentInfo(id: id, tokenID: token, agent: agent, instance: instance, run: run, number: 1)
        return SessionRow(info, services: services, claims: try claims(hosts), upstream: Upstream())
    }

    private func claims(_ hosts: [String]) throws -> [HostClaim] {
        try hosts.map { HostClaim(host: try HostPattern($0), specificity: .max) }
    }

    private func members(_ table: AttachmentTable, _ agent: String, _ service: String) -> [UInt64] {
        table.offers.index.rows(agent: agent, service: service).map(\.info.id).sorted()
    }

    @Test("Older attachments are those of the same token and name only")
    func older() throws {
        var table = AttachmentTable()
        var older: [[UInt64]] = []
        for (id, token, instance) in [(1, "t", "pod"), (2, "t", "other"), (3, "u", "pod"), (4, "t", "pod")] {
            older.append(table.add(try row(UInt64(id), token: token, instance: instance)).older.map(\.info.id))
        }
        #expect(older == [[], [], [], [1]])
        _ = table.remove(id: 1)
        older = [table.add(try row(5)).older.map(\.info.id)]
        #expect(older == [[4]])
    }

    @Test("A host is remembered after its last agent has left, until one offers it again or the token is revoked")
    func remembered() throws {
        var table = AttachmentTable()
        func known(_ host: String) -> RouteTarget? { table.offers.find(host) }
        _ = table.add(try row(1, services: ["site"], hosts: ["x.test"]))
        _ = table.add(try row(2, services: ["site"], hosts: ["x.test"]))
        _ = table.remove(id: 1)
        #expect(table.offers.remembered.count == 0)
        _ = table.remove(id: 2)
        #expect(known("x.test")?.agent == "demo" && known("x.test")?.service == "site")
        #expect(table.offers.index.owner(of: .exact("x.test")) == nil && table.offers.remembered.count == 1)
        _ = table.add(try row(3, token: "u", hosts: ["x.test"]))
        #expect(table.offers.remembered.count == 0)
        table.forgetHosts(tokenID: "u")
        #expect(known("x.test") != nil)
        _ = table.remove(id: 3)
        table.forgetHosts(tokenID: "t")
        #expect(known("x.test") != nil)
        table.forgetHosts(tokenID: "u")
        #expect(known("x.test") == nil)
    }

    @Test("The hosts that were remembered last stay, however often a host comes and goes")
    func rememberedLimit() throws {
        var table = AttachmentTable()
        let count = UInt64(AttachmentTable.rememberedHosts)
        for id in 1...count + 100 {
            _ = table.add(try row(id, hosts: ["h\(id).test"]))
            _ = table.remove(id: id)
        }
        #expect(table.offers.remembered.count == AttachmentTable.rememberedHosts)
        #expect(table.offers.find("h100.test") == nil && table.offers.find("h101.test") != nil)
        for id in count + 101...4 * count {
            _ = table.add(try row(id, hosts: ["one.test"]))
            _ = table.remove(id: id)
        }
        #expect(table.offers.find("one.test") != nil && table.offers.remembered.count > 0)
    }

    @Test("A limit counts the runs of a token, not sessions; the last session of a run releases its place")
    func runs() throws {
        var table = AttachmentTable()
        try attach(1, run: 1, to: &table)
        try attach(2, run: 1, to: &table)
        try attach(3, run: 2, to: &table)
        var answers = [claim(3, in: &table), claim(3, token: "u", in: &table)]
        _ = table.remove(id: 1)
        answers.append(claim(3, in: &table))
        _ = table.remove(id: 2)
        answers.append(claim(3, in: &table))
        #expect(answers == [false, true, false, true])
        // A lowered limit ends no session, and admits no further run.
        answers = [claim(4, limit: 1, in: &table), claim(3, limit: 1, in: &table), claim(5, limit: nil, in: &table)]
        #expect(answers == [false, true, true])
        #expect(table.rows(tokenID: "t", instance: "i2").map(\.info.id) == [3])
    }

    private func claim(_ run: UInt128, token: String = "t", limit: Int? = 2, in table: inout AttachmentTable) -> Bool {
        table.claim(run: RunID(rawValue: run), tokenID: token, limit: limit)
    }

    private func attach(_ id: UInt64, run: UInt128, to table: inout AttachmentTable) throws {
        let isIn = claim(run, in: &table)
        #expect(isIn)
        _ = table.add(try row(id, instance: "i\(run)", run: RunID(rawValue: run)))
    }

    @Test("A changed offer replaces the previous one, and a host that stays does not change its owner")
    func update() throws {
        var table = AttachmentTable()
        _ = table.add(try row(1, services: ["web"], hosts: ["x.test", "y.test"]))
        var transfers = table.update(id: 1, services: ["api"], claims: try claims(["y.test", "z.test"]))
        #expect(members(table, "demo", "web") == [] && members(table, "demo", "api") == [1])
        #expect(
            transfers == [
                .init(host: .exact("z.test"), from: nil, to: "t"), .init(host: .exact("x.test"), from: "t", to: nil),
            ]
        )
        #expect(
            table.offers.index.hostCount == 2 && table.rows(tokenID: "t", instance: "pod").map(\.services) == [["api"]]
        )
        transfers = table.update(id: 9, services: ["web"], claims: [])
        #expect(transfers.isEmpty && table.rows.count == 1)
    }

    @Test("Ten thousand agents attach and detach, and earlier copies stay as they were")
    func many() throws {
        var table = AttachmentTable()
        var read: [AgentOffers] = []
        for id in 0..<UInt64(10_000) {
            _ = table.add(try row(id, agent: "a\(id)", instance: "i\(id)", hosts: ["h\(id).test"]))
            if id % 1_000 == 0 { read.append(table.offers) }
        }
        for id in 0..<UInt64(10_000) { _ = table.remove(id: id) }
        #expect(table.rows.isEmpty && table.offers.index.hostCount == 0)
        #expect(read.map(\.index.hostCount) == (0..<10).map { $0 * 1_000 + 1 })
    }

    @Test("The keep-alive grows with the number of sessions, within its bounds")
    func keepAlive() {
        #expect(AgentRegistry.keepAlive(sessions: 0) == .seconds(1))
        #expect(AgentRegistry.keepAlive(sessions: 2_000) == .seconds(1))
        #expect(AgentRegistry.keepAlive(sessions: 10_000) == .seconds(5))
        #expect(AgentRegistry.keepAlive(sessions: 100_000) == .seconds(15))
    }
}

@Suite("Checks of a HELLO")
struct AgentAdmissionTests {
    private func hello(services: [String] = ["web"], hosts: [String] = [], name: String = "pod", max: Int = 10) -> Hello
    {
        Hello(
            tokenID: "t",
            secret: "s",
            name: name,
            run: .random(),
            attach: 1,
            services: services,
            hosts: hosts,
            maxRequests: max
        )
    }

    private func reason(_ hello: Hello) -> AgentAdmission.Rejection.Reason? {
        do throws(AgentAdmission.Rejection) {
            _ = try AgentAdmission.check(
                hello,
                allowsService: { $0 != "secret" },
                specificity: { $0 == .exact("ok.test") ? $0.specificity : nil }
            )
            return nil
        } catch {
            return error.reason
        }
    }

    @Test("An offer that the token allows is accepted; otherwise the rejection names the reason")
    func allowed() throws {
        #expect(reason(hello(hosts: ["OK.test"])) == nil)
        #expect(reason(hello(services: ["web", "secret"])) == .service)
        #expect(reason(hello(hosts: ["no.test"])) == .host)
    }

    @Test("An offer has no duplicates")
    func duplicates() throws {
        let (services, claims) = try AgentAdmission.checkOffer(
            ["web", "api", "web"],
            ["a.test", "A.test", "*.b.test"],
            { _ in true },
            { $0.specificity }
        )
        #expect(services == ["web", "api"])
        #expect(claims.map(\.host) == [.exact("a.test"), .below("b.test")] && claims.map(\.specificity) == [.max, 6])
    }

    @Test("An offer that is too long for a row of the store is malformed")
    func long() {
        let hosts = (0..<AgentAdmission.hostLimit).map { "h\($0)." + String(repeating: "a.", count: 60) + "test" }
        #expect(reason(hello(hosts: hosts)) == .malformed)
    }

    @Test("An invalid HELLO is malformed")
    func malformed() {
        #expect(reason(hello(services: [])) == .malformed)
        #expect(reason(hello(services: ["Not A Name"])) == .malformed)
        #expect(reason(hello(hosts: ["not a host"])) == .malformed)
        #expect(reason(hello(name: "")) == .malformed)
        #expect(reason(hello(name: "a\nb")) == .malformed)
        #expect(reason(hello(name: String(repeating: "a", count: 254))) == .malformed)
        #expect(reason(hello(max: 0)) == .malformed)
        #expect(reason(hello(services: (0...AgentAdmission.serviceLimit).map { "s\($0)" })) == .malformed)
    }

    @Test("The number of requests is bounded")
    func bounded() throws {
        let admission = try AgentAdmission.check(
            hello(max: .max),
            allowsService: { _ in true },
            specificity: { $0.specificity }
        )
        #expect(admission.maxRequests == AgentAdmission.requestLimit)
    }
}
