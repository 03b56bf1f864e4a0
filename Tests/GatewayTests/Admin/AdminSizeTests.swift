import ACME
import Certificates
import Cluster
import Formats
import Foundation
import Gateway
import HopProtocol
import NIOCore
import NIOPosix
import Settings
import Store
import TestSupport
import Testing

@Suite("The admin port with thousands of certificates and agents")
struct AdminSizeTests {
    /// Renewals that have failed, and agents of which every tenth takes no requests.
    private struct Contents: Sendable {
        var certificates: [CertificateEntry]
        let agents: [AgentEntry]

        init(names: Int, agents count: Int) throws {
            let error = """
                {"format":1,"failures":3,"last_error":{"code":"unavailable","message":"\(String(repeating: "m", count: 400))",\
                "remedy":"\(String(repeating: "r", count: 200))","authority":"https://ca.test/directory",\
                "at":"2026-01-01T00:00:00Z"}}
                """
            let state = try RenewalState(json: Array(error.utf8), place: "test")
            let renewals = try (0..<names).map { number in
                let name = try #require(CertificateName("n\(number).example.test"))
                var status = RenewalStatus(key: try name.storeKey, names: [name], isOnDemand: false)
                (status.failures, status.lastError) = (state.failures, state.lastError)
                return status
            }
            certificates = CertificateEntry.all([], renewals)
            agents = (0..<UInt64(count)).map { number in
                AgentEntry(
                    AttachmentInfo(
                        id: number * 3 + 1,
                        tokenID: "aaaaaaaaaaaaaaaa",
                        agent: "agent-\(number)",
                        instance: "pod-\(number)",
                        run: RunID(rawValue: UInt128(number)),
                        number: 1
                    ),
                    state: number % 10 == 3 ? .suspended : .active,
                    attachedAt: .now(),
                    requestsInFlight: Int(number % 100),
                    services: ["web", "api"],
                    hosts: []
                )
            }
        }

        var sources: AdminSources {
            AdminSources(
                status: { AdminReports.summary(certificates, agents) },
                replicas: { [:] },
                agents: { cursor in
                    AgentEntry.page(count: agents.count, after: cursor) { id, limit in
                        Array(agents.drop { $0.info.id <= id }.prefix(limit))
                    }
                },
                certificates: { CertificateEntry.page(certificates, after: $0) },
                drain: {}
            )
        }
    }

    /// Serves the contents and passes a client of the command line to `body`.
    private func serving(_ contents: Contents, _ body: (AdminClient) throws -> Void) async throws {
        let folder = ScratchFolder()
        defer { folder.remove() }
        let token = String(repeating: "t", count: 40)
        let tokens = try AdminTokens(file: folder.write("token", token)) { _ in }
        let server = try await AdminServer.start(
            host: "127.0.0.1",
            port: 0,
            on: MultiThreadedEventLoopGroup.singleton.any(),
            tokens: tokens,
            responder: AdminResponder(access: AdminAccess(tokens: tokens), sources: contents.sources)
        )
        var configuration = GatewayConfiguration()
        configuration.adminTokenFile = folder.file("token")
        configuration.adminListen = ListenAddress(host: "127.0.0.1", port: try #require(server.localAddress.port))
        try body(try await AdminClient(configuration, seconds: 30))
        await server.close()
    }

    @Test("A summary of 2,500 failing names and 10,000 agents counts them and shows the worst 20 of each")
    func summary() async throws {
        try await serving(try Contents(names: 2_500, agents: 10_000)) { client in
            let status = try client.get("/v1/status")
            #expect(status["certificates"] == .integer(2_500) && status["agents"] == .integer(10_000))
            let certificates = try #require(status["certificate_states"]?.object)
            #expect(certificates["failing"] == .integer(2_500) && certificates["good"] == .integer(0))
            let agents = try #require(status["agent_states"]?.object)
            #expect(agents["active"] == .integer(9_000) && agents["suspended"] == .integer(1_000))
            let worst = try #require(status["worst_agents"]?.array).compactMap(\.object)
            #expect(worst.count == 20 && worst.allSatisfy { $0["state"] == .string("suspended") })
            #expect(worst.allSatisfy { $0["requests_in_flight"] == .integer(93) })
            #expect(status["worst_certificates"]?.array?.count == 20)
            #expect(status.json.count < 64 * 1_024)
        }
    }

    @Test("Every certificate and agent is listed once, in bounded pages")
    func pages() async throws {
        let contents = try Contents(names: 2_500, agents: 10_000)
        try await serving(contents) { client in
            var places: [String] = []
            try client.pages("certificates") { page in
                #expect(JSONValue.array(page.map { .object($0) }).json.count < AdminPage.sizeLimit + 4_096)
                places += page.compactMap { $0["place"]?.string }
            }
            #expect(places == contents.certificates.map(\.place) && places.count == 2_500)
            var sessions: [Int64] = []
            var largest = 0
            try client.pages("agents") { page in
                largest = max(largest, page.count)
                sessions += page.compactMap { $0["session"]?.integer }
            }
            #expect(sessions == contents.agents.map { Int64($0.info.id) } && largest == AdminPage.rowLimit)
        }
    }

    @Test("A page of large rows ends at its limit of bytes, and equal cursors stay on one page")
    func limits() throws {
        let text = JSONValue.string(String(repeating: "x", count: 100_000))
        let large = AdminPage.answer("rows", count: 100, Array(0..<100), cursor: { "\($0)" }) { _ in ["x": text] }
        #expect(large["rows"]?.array?.count == 11 && large["next"] == .string("10"))
        let equal = AdminPage.answer("rows", count: 600, Array(0..<600), cursor: { "\($0 / 550)" }) { _ in [:] }
        #expect(equal["rows"]?.array?.count == 550 && equal["next"] == .string("0"))
        let all = AdminPage.answer("rows", count: 500, Array(0..<500), cursor: { "\($0)" }) { _ in [:] }
        #expect(all["rows"]?.array?.count == 500 && all["next"] == .null)
    }

    @Test("A summary of large rows ends at its limit of bytes, so that the client reads it")
    func largeSummary() async throws {
        let names = try (0..<4_000).map { number in
            try #require(CertificateName("n\(number).\(String(repeating: "x", count: 60)).test"))
        }
        let renewals = try names.prefix(20).map { name in
            RenewalStatus(key: try name.storeKey, names: names, isOnDemand: false)
        }
        var contents = try Contents(names: 0, agents: 0)
        contents.certificates = CertificateEntry.all([], renewals)
        try await serving(contents) { client in
            let status = try client.get("/v1/status")
            #expect(status["certificates"] == .integer(20))
            #expect(status["worst_certificates"]?.array?.count == 4)
        }
    }

    @Test("A cursor that no page named is refused")
    func cursors() throws {
        #expect(CertificateEntry.page([], after: "?") == nil)
        #expect(AgentEntry.page(count: 0, after: "x") { _, _ in [] } == nil)
    }

    @Test("Failing certificates come first in a summary, then those nearest to their expiry")
    func worst() throws {
        func served(_ name: String, hours: Double, problem: Bool = false) throws -> CertificateStatus {
            let pair = try TestCertificate([name], hours: -100...hours)
            return CertificateStatus(
                source: .files,
                place: name,
                certificate: try ServerCertificate(
                    chain: pair.chainBytes,
                    key: pair.keyBytes,
                    chainPath: name,
                    keyPath: name
                ),
                problem: problem ? CertificatesError(.malformed, name, "is damaged") : nil
            )
        }
        let name = try #require(CertificateName("new.test"))
        let entries = CertificateEntry.all(
            [
                try served("late.test", hours: 900), try served("bad.test", hours: 800, problem: true),
                try served("soon.test", hours: 10), try served("over.test", hours: -1),
            ],
            [RenewalStatus(key: try name.storeKey, names: [name], isOnDemand: false)]
        )
        let summary = AdminReports.summary(entries, [])
        let places = summary["worst_certificates"]?.array?.compactMap { $0.object?["place"]?.string }
        #expect(places == ["bad.test", "certs/new.test", "over.test", "soon.test", "late.test"])
        let counts: [String: Int64] = ["good": 2, "failing": 1, "expired": 1, "not_issued": 1, "not_valid_yet": 0]
        #expect(summary["certificate_states"] == .object(counts.mapValues { .integer($0) }))
    }
}
