import Cluster
import Credentials
import FoundationEssentials
import Gateway
import Logging
import NIOCore
import Settings
import Synchronization
import Testing

/// A whole gateway in this process on ports that the system chose, with a data folder of its own and one token.
final class TestGateway: Sendable {
    let process: GatewayProcess
    let token: IssuedToken
    let folder: String
    private let configuration: GatewayConfiguration

    static func start(
        services: [String] = ["*"],
        hosts: [String] = ["*.agent.test"],
        maxAgents: Int? = nil,
        loops: Int = 2,
        log: TestLog? = nil,
        _ change: (inout GatewayConfiguration) -> Void = { _ in }
    ) async throws -> TestGateway {
        let folder = FileManager.default.temporaryDirectory.path + "/hopgate-test-\(UInt64.random(in: 0 ... .max))"
        var configuration = GatewayConfiguration()
        configuration.httpListen = ListenAddress(host: "127.0.0.1", port: 0)
        configuration.httpsListen = ListenAddress(host: "127.0.0.1", port: 0)
        configuration.dtlsListen = configuration.httpsListen
        configuration.opsListen = ListenAddress(host: "127.0.0.1", port: 0)
        configuration.adminListen = ListenAddress(host: "127.0.0.1", port: 0)
        configuration.store.path = folder
        configuration.loops = loops
        configuration.routes = [
            Route(host: "app.test", agent: "demo", service: "web"),
            Route(host: "app.test", pathPrefix: "/api", agent: "demo", service: "api", stripPrefix: true),
            Route(host: "slow.test", agent: "demo", service: "web", timeout: .milliseconds(300)),
            Route(host: "absent.test", agent: "nobody", service: "web"),
        ]
        change(&configuration)
        let token = try await edit(configuration) { editor in
            try await editor.create(name: "demo", services: services, hosts: hosts, maxAgents: maxAgents).token
        }
        var logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        logger.logLevel = .critical
        let process = try await GatewayProcess.start(
            configuration,
            version: "test",
            output: log?.output,
            logger: log?.logger ?? logger
        )
        return TestGateway(process: process, token: token, configuration: configuration)
    }

    private init(process: GatewayProcess, token: IssuedToken, configuration: GatewayConfiguration) {
        self.process = process
        self.token = token
        self.configuration = configuration
        self.folder = configuration.store.path
    }

    /// Edits credentials in the gateway's store, as a command does.
    func edit<Result: Sendable>(_ body: (CredentialEditor) async throws -> Result) async throws -> Result {
        try await Self.edit(configuration, body)
    }

    private static func edit<Result: Sendable>(
        _ configuration: GatewayConfiguration,
        _ body: (CredentialEditor) async throws -> Result
    ) async throws -> Result {
        let shared = try await SharedStore.openForCommand(configuration.store).shared
        defer { shared.close() }
        return try await body(CredentialEditor(store: shared.store, keyring: shared.keyring))
    }

    func stop() async {
        await process.shutDown(grace: .seconds(1))
        try? FileManager.default.removeItem(atPath: folder)
    }

    var rootPEM: [UInt8] {
        get throws {
            try #require(process.developmentRoot).pem
        }
    }

    /// Runs `body` against a gateway and stops it in every case.
    static func with(
        services: [String] = ["*"],
        hosts: [String] = ["*.agent.test"],
        maxAgents: Int? = nil,
        loops: Int = 2,
        log: TestLog? = nil,
        _ change: (inout GatewayConfiguration) -> Void = { _ in },
        _ body: (TestGateway) async throws -> Void
    ) async throws {
        let gateway = try await start(
            services: services,
            hosts: hosts,
            maxAgents: maxAgents,
            loops: loops,
            log: log,
            change
        )
        do {
            try await body(gateway)
        } catch {
            await gateway.stop()
            throw error
        }
        await gateway.stop()
    }
}

/// Waits for a condition, with a deadline.
func eventually(
    _ what: String,
    within limit: Duration = .seconds(10),
    _ condition: () async throws -> Bool
) async throws {
    let clock = ContinuousClock()
    let deadline = clock.now + limit
    while try await !condition() {
        guard clock.now < deadline else {
            Issue.record("\(what) did not come true within \(limit)")
            throw Timeout()
        }
        try await Task.sleep(for: .milliseconds(2))
    }
}

struct Timeout: Error {}
