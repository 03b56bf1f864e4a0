import Agent
import Glibc
import HopProtocol
import Logging
import NIOCore
import Settings
import Synchronization
import TestSupport
import Testing

/// A test gateway, an agent and a test origin in this process.
final class Rig: Sendable {
    let gateway: TestGateway
    let origin: TestOrigin
    let agent: RunningAgent

    init(
        origin: TestOrigin,
        answer: @escaping @Sendable (Hello) -> ControlMessage = TestGateway.welcome,
        ledgerCapacity: Int = RequestLedgerLimits.capacity,
        change: (inout AgentConfiguration) -> Void = { _ in }
    ) async throws {
        self.origin = origin
        gateway = try await TestGateway(answer: answer)
        agent = try RunningAgent(
            gatewayPort: gateway.port,
            originPort: origin.port,
            ledgerCapacity: ledgerCapacity,
            change
        )
    }

    /// A head for this agent's run.
    func head(
        _ method: String = "GET",
        _ path: String = "/",
        id: RequestID = .random(),
        attempt: UInt64 = 1,
        service: String = "web",
        deadline: TimeAmount? = .seconds(20),
        fields: FieldSection = FieldSection()
    ) async throws -> RequestHead {
        let hello = try #require(try await gateway.hellos.wait("HELLO") { !$0.isEmpty }.last)
        return RequestHead(
            requestID: id,
            attempt: attempt,
            run: hello.run,
            method: method,
            scheme: "https",
            authority: "app.test",
            path: path,
            service: service,
            deadline: deadline,
            fields: fields
        )
    }

    /// Sends a GET without a body, and returns the complete response.
    func get(_ path: String = "/", _ fields: FieldSection = FieldSection()) async throws -> CallLog {
        try await gateway.call(try await head("GET", path, fields: fields)).over()
    }

    func stop() async throws {
        try await agent.stop()
        await gateway.stop()
        await origin.stop()
    }

    /// Runs `body` with a rig, and stops the rig even if `body` throws.
    static func with(
        _ origin: TestOrigin,
        answer: @escaping @Sendable (Hello) -> ControlMessage = TestGateway.welcome,
        ledgerCapacity: Int = RequestLedgerLimits.capacity,
        change: (inout AgentConfiguration) -> Void = { _ in },
        _ body: (Rig) async throws -> Void
    ) async throws {
        let rig = try await Rig(origin: origin, answer: answer, ledgerCapacity: ledgerCapacity, change: change)
        do {
            try await body(rig)
        } catch {
            try? await rig.stop()
            throw error
        }
        try await rig.stop()
    }
}

/// An agent with the task that runs it, and its log.
final class RunningAgent: Sendable {
    let agent: Agent
    let lines = Observed<[LoggedLine]>([])
    private let folder = ScratchFolder()
    private let task: Task<Void, any Error>

    init(
        gatewayPort: Int,
        originPort: Int,
        ledgerCapacity: Int = RequestLedgerLimits.capacity,
        resolve: @escaping AddressResolver.Resolve = AddressResolver.resolve,
        _ change: (inout AgentConfiguration) -> Void = { _ in }
    ) throws {
        var configuration = AgentConfiguration(
            gateways: [HostPort(host: "127.0.0.1", port: gatewayPort)],
            token: AgentToken(id: "test", secret: "secret"),
            name: "agent-1",
            services: [ServiceDefinition(name: "web", target: HostPort(host: "127.0.0.1", port: originPort))]
        )
        configuration.trust = .caFile(path: folder.write("ca.pem", TestAuthority.shared.pem))
        configuration.opsListen = nil
        configuration.shutdownGrace = .milliseconds(500)
        change(&configuration)
        let lines = lines
        let log = Logger(label: "test") { _ in CapturingLog(lines: lines) }
        let agent = Agent(configuration: configuration, log: log, ledgerCapacity: ledgerCapacity, resolve: resolve)
        self.agent = agent
        task = Task { try await agent.run() }
    }

    func stop() async throws {
        agent.shutdown()
        try await task.value
    }

    /// Waits for a log line that contains `text`.
    func line(_ text: String, fileID: String = #fileID, line: Int = #line) async throws -> LoggedLine? {
        try await lines.wait("a log line: \(text)", fileID: fileID, line: line) { lines in
            lines.contains { $0.text.contains(text) }
        }.first { $0.text.contains(text) }
    }
}

struct LoggedLine: Sendable {
    var level: Logger.Level
    /// The message and the metadata.
    var text: String
}

private struct CapturingLog: LogHandler {
    let lines: Observed<[LoggedLine]>
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.debug

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let metadata = (event.metadata ?? [:]).map { "\($0.key)=\($0.value)" }.sorted().joined(separator: " ")
        lines.update { $0.append(LoggedLine(level: event.level, text: "\(event.message) \(metadata)")) }
    }
}
