import Cluster
import Credentials
import FoundationEssentials
import Gateway
import Logging
import NIOCore
import Settings
import Synchronization
import TestSupport
import Testing

/// A whole gateway in this process on ports that the system chose, with a data folder of its own, and with one token or
/// an empty store.
final class TestGateway: Sendable {
    let process: GatewayProcess
    let token: IssuedToken
    private let scratch: ScratchFolder
    private let configuration: GatewayConfiguration

    /// The folder of the store.
    var folder: String { configuration.store.path }

    static func start(
        services: [String] = ["*"],
        hosts: [String] = ["*.agent.test"],
        maxAgents: Int? = nil,
        loops: Int = 2,
        hasToken: Bool = true,
        log: TestLog? = nil,
        _ change: (inout GatewayConfiguration) -> Void = { _ in }
    ) async throws -> TestGateway {
        let scratch = ScratchFolder()
        let folder = scratch.file("data")
        var configuration = GatewayConfiguration()
        configuration.httpListen = ListenAddress(host: "127.0.0.1", port: 0)
        configuration.httpsListen = ListenAddress(host: "127.0.0.1", port: 0)
        configuration.dtlsListen = configuration.httpsListen
        configuration.meshListen = configuration.httpsListen
        configuration.opsListen = ListenAddress(host: "127.0.0.1", port: 0)
        configuration.adminListen = ListenAddress(host: "127.0.0.1", port: 0)
        configuration.store = SharedStoreConfiguration(path: folder)
        configuration.loops = loops
        configuration.routes = [
            Route(host: "app.test", agent: "demo", service: "web"),
            Route(host: "app.test", pathPrefix: "/api", agent: "demo", service: "api", stripPrefix: true),
            Route(host: "slow.test", agent: "demo", service: "web", timeout: .milliseconds(300)),
            Route(host: "absent.test", agent: "nobody", service: "web"),
        ]
        change(&configuration)
        var token = IssuedToken()
        if hasToken {
            token = try await edit(configuration) { editor in
                try await editor.create(name: "demo", services: services, hosts: hosts, maxAgents: maxAgents).token
            }
        }
        var logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        logger.logLevel = .critical
        let process = try await GatewayProcess.start(
            configuration,
            version: "test",
            output: log?.output,
            logger: log?.logger ?? logger
        )
        return TestGateway(process: process, token: token, configuration: configuration, scratch: scratch)
    }

    private init(
        process: GatewayProcess,
        token: IssuedToken,
        configuration: GatewayConfiguration,
        scratch: ScratchFolder
    ) {
        self.process = process
        self.token = token
        self.configuration = configuration
        self.scratch = scratch
    }

    /// Edits credentials in the gateway's store, as a command does.
    func edit<Result: Sendable>(_ body: (CredentialEditor) async throws -> Result) async throws -> Result {
        try await Self.edit(configuration, body)
    }

    private static func edit<Result: Sendable>(
        _ configuration: GatewayConfiguration,
        _ body: (CredentialEditor) async throws -> Result
    ) async throws -> Result {
        let shared = try await SharedStore.openForCommand(configuration.store)
        defer { shared.close() }
        return try await body(CredentialEditor(store: shared.store, keyring: shared.keyring))
    }

    func stop() async {
        await process.shutDown(grace: .seconds(1))
        scratch.remove()
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
        hasToken: Bool = true,
        log: TestLog? = nil,
        _ change: (inout GatewayConfiguration) -> Void = { _ in },
        _ body: (TestGateway) async throws -> Void
    ) async throws {
        let gateway = try await start(
            services: services,
            hosts: hosts,
            maxAgents: maxAgents,
            loops: loops,
            hasToken: hasToken,
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
