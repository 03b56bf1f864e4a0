import Cluster
import Credentials
import Formats
import FoundationEssentials
import Gateway
import NIOCore
import NIOHTTP1
import NIOPosix
import Observability
import Settings
import Store
import Synchronization
import TestSupport
import Testing

@Suite("The admin port")
struct AdminTests {
    private static let token = String(repeating: "t", count: 40)

    private final class Recorded: Sendable {
        let drains = Atomic<Int>(0)
        let failures = Mutex<[AdminAccess.Failure]>([])
    }

    private func responder(
        _ tokens: AdminTokens,
        _ recorded: Recorded,
        now: @escaping @Sendable () -> NIODeadline = { .now() }
    ) -> AdminResponder {
        AdminResponder(
            access: AdminAccess(tokens: tokens) { failure in recorded.failures.withLock { $0.append(failure) } },
            sources: AdminSources(
                status: { ["name": .string("one")] },
                replicas: { [:] },
                agents: { $0 == "x" ? nil : ["after": .string($0 ?? "")] },
                certificates: { _ in [:] },
                drain: { recorded.drains.wrappingAdd(1, ordering: .relaxed) }
            ),
            now: now
        )
    }

    private func tokens() -> (AdminTokens, ClusterKeyring) {
        let keyring = ClusterKeyring((0..<2).map { _ in ClusterKey.generate() })
        return (AdminTokens { keyring }, keyring)
    }

    private func request(
        _ method: HTTPMethod,
        _ path: String,
        token: String?,
        from address: String = "192.0.2.1"
    ) throws -> ResponderRequest {
        ResponderRequest(
            method: method,
            path: path,
            fields: token.map { ["authorization": "Bearer \($0)"] } ?? [:],
            remote: try SocketAddress(ipAddress: address, port: 1)
        )
    }

    @Test("The token of every key is accepted, any other is not, and unknown paths are not revealed")
    func access() throws {
        let (tokens, keyring) = tokens()
        let recorded = Recorded()
        let responder = responder(tokens, recorded)
        for token in keyring.adminTokens {
            let answer = responder.answer(try request(.GET, "/v1/status", token: token))
            #expect(answer.status == .ok && answer.type == "application/json")
            #expect(String(buffer: answer.body) == "{\"name\":\"one\"}\n")
        }
        for path in ["/v1/status", "/v1/nothing", "/"] {
            let answer = responder.answer(try request(.GET, path, token: nil))
            #expect(answer.status == .unauthorized)
            #expect(answer.fields.contains { $0.name == "www-authenticate" && $0.value.hasPrefix("Bearer") })
        }
        let wrong = keyring.adminTokens[0].dropLast() + "x"
        #expect(responder.answer(try request(.GET, "/v1/status", token: String(wrong))).status == .unauthorized)
        #expect(recorded.failures.withLock { $0 } == [.missing, .missing, .missing, .wrong])
        #expect(responder.answer(try request(.GET, "/v1/nothing", token: keyring.adminTokens[0])).status == .notFound)
    }

    @Test("Other schemes, two tokens and empty tokens count as missing")
    func schemes() throws {
        let (tokens, keyring) = tokens()
        let responder = responder(tokens, Recorded())
        let token = keyring.adminTokens[0]
        func status(_ fields: HTTPHeaders) -> HTTPResponseStatus {
            responder.answer(ResponderRequest(method: .GET, path: "/v1/status", fields: fields)).status
        }
        #expect(status(["authorization": "bearer  \(token)"]) == .ok)
        for value in ["Basic \(token)", token, "Bearer", "Bearer ", "Bearer \(token) x", "Bearer\(token)"] {
            #expect(status(["authorization": value]) == .unauthorized, "\(value)")
        }
        #expect(
            status(HTTPHeaders([("authorization", "Bearer \(token)"), ("authorization", "Bearer x")])) == .unauthorized
        )
    }

    @Test("A client with too many wrong tokens has to wait; a correct token is accepted nevertheless")
    func limits() throws {
        let (tokens, keyring) = tokens()
        let responder = responder(tokens, Recorded()) { .uptimeNanoseconds(1_000_000_000) }
        var statuses: [HTTPResponseStatus] = []
        for _ in 0..<12 { statuses.append(responder.answer(try request(.GET, "/v1/status", token: "x")).status) }
        #expect(statuses.prefix(10).allSatisfy { $0 == .unauthorized })
        #expect(statuses.suffix(2).allSatisfy { $0 == .tooManyRequests })
        let answer = responder.answer(try request(.GET, "/v1/status", token: "x"))
        #expect(answer.fields.contains { $0.name == "retry-after" && $0.value == "6" })
        #expect(responder.answer(try request(.GET, "/v1/status", token: keyring.adminTokens[1])).status == .ok)
        let elsewhere = try request(.GET, "/v1/status", token: "x", from: "192.0.2.2")
        #expect(responder.answer(elsewhere).status == .unauthorized)
    }

    @Test("Resources allow certain methods, and the drain may be requested again")
    func methods() throws {
        let (tokens, keyring) = tokens()
        let recorded = Recorded()
        let responder = responder(tokens, recorded)
        let token = keyring.adminTokens[0]
        for path in ["/v1/status", "/v1/replicas", "/v1/agents", "/v1/certificates"] {
            let answer = responder.answer(try request(.POST, path, token: token))
            #expect(answer.status == .methodNotAllowed)
            #expect(answer.fields.contains { $0.name == "allow" && $0.value == "GET, HEAD" })
            #expect(responder.answer(try request(.HEAD, path, token: token)).status == .ok)
        }
        #expect(responder.answer(try request(.GET, "/v1/drain", token: token)).status == .methodNotAllowed)
        #expect(recorded.drains.load(ordering: .relaxed) == 0)
        for _ in 0..<2 { #expect(responder.answer(try request(.POST, "/v1/drain", token: token)).status == .accepted) }
        #expect(recorded.drains.load(ordering: .relaxed) == 2)
    }

    @Test("A list takes a cursor as its only parameter")
    func cursors() throws {
        let (tokens, keyring) = tokens()
        let responder = responder(tokens, Recorded())
        func answer(_ query: String) -> (HTTPResponseStatus, String) {
            let fields: HTTPHeaders = ["authorization": "Bearer \(keyring.adminTokens[0])"]
            let answer = responder.answer(
                ResponderRequest(method: .GET, path: "/v1/agents", query: query, fields: fields)
            )
            return (answer.status, String(buffer: answer.body))
        }
        #expect(answer("") == (.ok, "{\"after\":\"\"}\n"))
        #expect(answer("after=7") == (.ok, "{\"after\":\"7\"}\n"))
        for query in ["after=x", "limit=7", "after"] { #expect(answer(query).0 == .badRequest, "\(query)") }
    }

    @Test("A token in a file is trimmed, has a minimum length, and is read again when it changes")
    func file() async throws {
        let folder = ScratchFolder()
        defer { folder.remove() }
        let path = folder.file("token")
        func write(_ text: String) { folder.write("token", text) }
        #expect(throws: AdminTokenError.self) { try AdminTokens(file: path) { _ in } }
        for bad in ["", "short", String(repeating: "x", count: 31), Self.token + " " + Self.token] {
            write(bad)
            #expect(throws: AdminTokenError.self, "\(bad)") { try AdminTokens(file: path) { _ in } }
        }
        write("  \(Self.token)\r\n")
        let problems = Mutex<[String?]>([])
        let tokens = try AdminTokens(file: path) { problem in problems.withLock { $0.append(problem?.description) } }
        defer { tokens.stop() }
        #expect(tokens.accepts(Self.token) && !tokens.accepts(Self.token + "t") && !tokens.accepts(""))
        write("bad")
        try await eventually("the problem is reported") { problems.withLock { $0.count } == 1 }
        #expect(tokens.accepts(Self.token))
        #expect(problems.withLock { $0[0]?.contains(Self.token) == false })
        let next = String(repeating: "u", count: 32)
        write(next)
        try await eventually("the new token is accepted") { tokens.accepts(next) }
        try await eventually("the repair is reported") { problems.withLock { $0.count == 2 && $0[1] == nil } }
        #expect(!tokens.accepts(Self.token))
    }

    @Test("A body beyond the limit is refused, one within it is read")
    func bodies() async throws {
        let (tokens, keyring) = tokens()
        let server = try await AdminServer.start(
            host: "127.0.0.1",
            port: 0,
            on: MultiThreadedEventLoopGroup.singleton.any(),
            tokens: tokens,
            responder: responder(tokens, Recorded())
        )
        let port = try #require(server.localAddress.port)
        func post(_ size: Int) throws -> Int {
            try OpsProbe(
                host: "127.0.0.1",
                port: port,
                path: "/v1/drain",
                seconds: 10,
                method: "POST",
                fields: [("Authorization", "Bearer \(keyring.adminTokens[0])")],
                body: String(repeating: "x", count: size)
            ).send().status
        }
        #expect(try post(0) == 202)
        #expect(try post(AdminResponder.bodyLimit) == 202)
        #expect(try post(AdminResponder.bodyLimit + 1) == 413)
        await server.close()
    }

    @Test("The status warns of an agent's wildcard below which no host gets a certificate on demand")
    func warnings() async throws {
        let folder = ScratchFolder()
        defer { folder.remove() }
        let file = folder.write("token", Self.token)
        try await TestGateway.with({ configuration in
            configuration.adminTokenFile = file
            var acme = ACMEConfiguration.forTests
            acme.onDemand.hosts = [.below("agent.test")]
            configuration.acme = acme
        }) { gateway in
            var configuration = GatewayConfiguration()
            configuration.adminTokenFile = file
            configuration.adminListen.port = try #require(gateway.process.adminAddress.port)
            let client = try await AdminClient(configuration)
            _ = try await TestAgent.attach(to: gateway, hosts: ["exact.agent.test"])
            #expect(try client.get("/v1/status")["warnings"] == .array([]))
            _ = try await TestAgent.attach(to: gateway, hosts: ["*.x.agent.test"])
            let warnings = try client.get("/v1/status")["warnings"]?.strings ?? []
            #expect(warnings.count == 1 && warnings[0].hasPrefix("*.x.agent.test of an agent gets no certificate"))
        }
    }

    @Test("A running gateway reports on itself, its store and its cluster without secrets")
    func gateway() async throws {
        try await TestGateway.with { gateway in
            let port = try #require(gateway.process.adminAddress.port)
            let (store, cluster) = try await VolumeStore.openFounded(path: gateway.folder + "/v2", mounted: nil)
            defer { store.close() }
            func get(_ path: String) throws -> (Int, String) { try self.get(path, port, cluster.keyring) }
            try await eventually("the replica sees itself") { try get("/v1/replicas").1.contains(#""self":true"#) }
            let (status, body) = try get("/v1/status")
            #expect(status == 200)
            for part in [
                #""stage":"active""#, #""state":"healthy""#, #""driver":"volume""#, #""id":"\#(cluster.id)""#,
                #""key_on_volume":true"#, #""keys_on_volume":["\#(cluster.keyring.signing.id)"]"#,
                #""last_error":null"#,
            ] {
                #expect(body.contains(part), "\(part) in \(body)")
            }
            for path in ["/v1/status", "/v1/replicas", "/v1/agents", "/v1/certificates"] {
                let body = try get(path).1
                #expect(!body.contains(cluster.keyring.signing.adminToken) && !body.contains(gateway.token.secret))
            }
            let ops = try #require(gateway.process.opsAddress.port)
            let ready = try OpsProbe(host: "127.0.0.1", port: ops, path: "/readyz", seconds: 10).send()
            #expect(ready.body.contains(#""store":{"ready":true,"detail":"healthy"}"#))
            try await eventually("a heartbeat is counted") {
                try await gateway.metric(#"hopgate_store_operation_seconds_count{operation="heartbeat"}"#) ?? 0 > 0
            }
            let metrics = try OpsProbe(host: "127.0.0.1", port: ops, path: "/metrics", seconds: 10, limit: 1 << 20)
                .send()
            for line in [
                #"hopgate_store_state{state="healthy"} 1"#, #"hopgate_store_state{state="read-only"} 0"#,
                #"hopgate_store_refused_total{reason="corrupt"} 0"#, #"hopgate_cluster_replicas{state="active"} 1"#,
                #"hopgate_admin_auth_failures_total{reason="wrong"} 0"#,
            ] {
                #expect(metrics.body.contains(line + "\n"), "\(line)")
            }
        }
    }

    @Test("A gateway with its store in memory names the driver and no path, and accepts the token of a mounted key")
    func memory() async throws {
        let scratch = ScratchFolder()
        defer { scratch.remove() }
        let key = scratch.write("key", String(repeating: "k", count: 40))
        let change = { (configuration: inout GatewayConfiguration) in
            configuration.store.driver = .memory
            configuration.store.clusterKeyFile = key
        }
        try await TestGateway.with(hasToken: false, change) { gateway in
            var configuration = SharedStoreConfiguration(path: "")
            configuration.clusterKeyFile = key
            let keys = try await configuration.mountedKeys()
            let keyring = ClusterKeyring(try #require(keys))
            let port = try #require(gateway.process.adminAddress.port)
            try await eventually("the store is healthy") {
                try get("/v1/status", port, keyring).1.contains(#""state":"healthy""#)
            }
            let (status, body) = try get("/v1/status", port, keyring)
            #expect(status == 200)
            for part in [#""driver":"memory""#, #""key_on_volume":false"#, #""keys_on_volume":[]"#] {
                #expect(body.contains(part), "\(part) in \(body)")
            }
            #expect(!body.contains(#""path""#) && !body.contains(gateway.folder))
        }
    }

    /// Requests a document of the admin port with the token of a cluster.
    private func get(_ path: String, _ port: Int, _ keyring: ClusterKeyring) throws -> (Int, String) {
        let answer = try OpsProbe(
            host: "127.0.0.1",
            port: port,
            path: path,
            seconds: 10,
            fields: [("Authorization", "Bearer \(keyring.signing.adminToken)")]
        ).send()
        return (answer.status, answer.body)
    }
}
