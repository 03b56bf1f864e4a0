import Formats
import Gateway
import HopProtocol
import NIOCore
import Testing

@Suite("Attachment table")
struct AttachmentTableTests {
    private struct Member: AttachmentTableMember {
        var info: AttachmentInfo
    }

    private typealias Table = AttachmentTable<Member>

    private func row(
        _ id: UInt64,
        token: String = "t",
        agent: String = "demo",
        instance: String = "pod",
        run: RunID = RunID(rawValue: 1),
        services: [String] = ["web"],
        hosts: [String] = []
    ) throws -> Table.Row {
        let info = AttachmentInfo(
            id: id,
            tokenID: token,
            agent: agent,
            instance: instance,
            run: run,
            number: 1
        )
        return Table.Row(Member(info: info), services: services, hosts: try hosts.map { try HostPattern($0) })
    }

    private func members(_ table: Table, _ agent: String, _ service: String) -> [UInt64] {
        (table.byService[.init(agent: agent, service: service)] ?? []).map(\.info.id)
    }

    @Test("Attachments are found by agent and service, in the order of attachment")
    func services() throws {
        var table = Table()
        _ = table.add(try row(1, services: ["web", "api", "web"]))
        _ = table.add(try row(2, instance: "other"))
        _ = table.add(try row(3, agent: "else"))
        #expect(members(table, "demo", "web") == [1, 2])
        #expect(members(table, "demo", "api") == [1])
        #expect(members(table, "else", "web") == [3])
        table.remove(id: 1)
        #expect(members(table, "demo", "web") == [2])
        #expect(table.byService[.init(agent: "demo", service: "api")] == nil)
        #expect(table.rows.count == 2)
    }

    @Test("Older attachments are those of the same token and name only")
    func older() throws {
        var table = Table()
        #expect(table.add(try row(1)).isEmpty)
        #expect(table.add(try row(2, instance: "other")).isEmpty)
        #expect(table.add(try row(3, token: "u")).isEmpty)
        #expect(table.add(try row(4)).map(\.info.id) == [1])
        #expect(table.add(try row(5)).map(\.info.id) == [1, 4])
        table.remove(id: 1)
        #expect(table.add(try row(6)).map(\.info.id) == [4, 5])
    }

    @Test("A host belongs to the first agent that offers it, and then to the next one")
    func hosts() throws {
        var table = Table()
        _ = table.add(try row(1, agent: "a", hosts: ["x.test"]))
        _ = table.add(try row(2, agent: "b", hosts: ["x.test", "*.y.test"]))
        #expect(HostTable(table.hosts).find("x.test")?.agent == "a")
        #expect(HostTable(table.hosts).find("z.y.test")?.agent == "b")
        table.remove(id: 1)
        #expect(HostTable(table.hosts).find("x.test")?.agent == "b")
    }

    @Test("A host is remembered after its agent has left, until the token is revoked")
    func remembered() throws {
        var table = Table()
        _ = table.add(try row(1, hosts: ["x.test"]))
        table.remove(id: 1)
        #expect(HostTable(table.hosts).find("x.test") != nil)
        table.forgetHosts(tokenID: "t")
        #expect(HostTable(table.hosts).find("x.test") == nil)
        for id in 2..<UInt64(Table.rememberedHosts + 100) {
            _ = table.add(try row(id, hosts: ["h\(id).test"]))
            table.remove(id: id)
        }
        #expect(table.hosts.count == Table.rememberedHosts)
    }

    @Test("A limit counts the runs of a token, not sessions; the last session of a run releases its place")
    func runs() throws {
        var table = Table()
        try attach(1, run: 1, to: &table)
        try attach(2, run: 1, to: &table)
        try attach(3, run: 2, to: &table)
        var answers = [claim(3, in: &table), claim(3, token: "u", in: &table)]
        table.remove(id: 1)
        answers.append(claim(3, in: &table))
        table.remove(id: 2)
        answers.append(claim(3, in: &table))
        #expect(answers == [false, true, false, true])
        // A lowered limit ends no session, and admits no further run.
        answers = [claim(4, limit: 1, in: &table), claim(3, limit: 1, in: &table), claim(5, limit: nil, in: &table)]
        #expect(answers == [false, true, true])
        #expect(table.rows(tokenID: "t", instance: "i2").map(\.info.id) == [3])
    }

    private func claim(_ run: UInt128, token: String = "t", limit: Int? = 2, in table: inout Table) -> Bool {
        table.claim(run: RunID(rawValue: run), tokenID: token, limit: limit)
    }

    private func attach(_ id: UInt64, run: UInt128, to table: inout Table) throws {
        let isIn = claim(run, in: &table)
        #expect(isIn)
        _ = table.add(try row(id, instance: "i\(run)", run: RunID(rawValue: run)))
    }

    @Test("A changed offer replaces the previous one")
    func update() throws {
        var table = Table()
        _ = table.add(try row(1, services: ["web"], hosts: ["x.test"]))
        let isKnown = table.update(id: 1, services: ["api"], hosts: [])
        #expect(isKnown)
        #expect(members(table, "demo", "web") == [])
        #expect(members(table, "demo", "api") == [1])
        #expect(table.hosts.isEmpty)
        let isUnknown = !table.update(id: 9, services: [], hosts: [])
        #expect(isUnknown)
    }

    @Test("Ten thousand agents attach and detach quickly")
    func many() throws {
        var table = Table()
        let clock = ContinuousClock()
        let taken = try clock.measure {
            for id in 0..<UInt64(10_000) { _ = table.add(try row(id, agent: "a\(id)", instance: "i\(id)")) }
            for id in 0..<UInt64(10_000) { table.remove(id: id) }
        }
        #expect(taken < .seconds(5))
        #expect(table.rows.isEmpty && table.byService.isEmpty)
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
                allowsHost: { $0 == .exact("ok.test") }
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
            allowsHost: { _ in true }
        )
        #expect(admission.maxRequests == AgentAdmission.requestLimit)
    }
}
