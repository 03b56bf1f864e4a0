import Credentials
import Dispatch
import Gateway
import HopProtocol
import NIOCore
import NIOPosix
import TestSupport
import Testing

@Suite("Two attachments of one name")
struct SupersedingTests {
    @Test("A silent session receives no new requests, and is closed when it does not answer the probe")
    func silent() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let gate = Gate()
        try await TestGateway.with { gateway in
            let old = try await TestAgent.attach(to: gateway, on: group.next()) { $0.answer(200, "old") }
            let client = try await TestClient.https(gateway)
            let request = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
            #expect(try await client.exchange(request).body == "old")
            // The agent is suspended completely, as by SIGSTOP.
            group.next().execute { gate.wait() }
            _ = try await TestAgent.attach(to: gateway) { $0.answer(200, "new") }
            for _ in 0..<20 { #expect(try await client.exchange(request).body == "new") }
            let ops = try await TestClient.connect(to: gateway.process.opsAddress, serverName: nil)
            try await eventually("one agent is left", within: .seconds(5)) {
                let metrics = try await ops.exchange("GET /metrics HTTP/1.1\r\nHost: ops\r\n\r\n").body
                return metrics.contains("hopgate_agents_connected 1\n")
                    && metrics.contains("hopgate_agent_disconnects_total{reason=\"superseded\"} 1\n")
            }
            gate.open()
            try await eventually("the old one is notified") { old.closed != nil }
        }
        gate.open()
        try await group.shutdownGracefully()
    }
}

@Suite("Messages of an agent whose credential is being read")
struct AwaitedCredentialTests {
    @Test("SERVICES and GOAWAY that arrive with HELLO, for a token that was created just now, are applied")
    func early() async throws {
        let log = try TestLog()
        func hello(_ token: IssuedToken) -> ControlMessage {
            let (id, secret) = (token.id, token.secret)
            return .hello(Hello(tokenID: id, secret: secret, name: "a", run: .random(), attach: 1, services: ["web"]))
        }
        try await TestGateway.with(hasToken: false, log: log) { gateway in
            let token = try await gateway.edit { try await $0.create(name: "demo").token }
            let offer = ControlMessage.services(Services(services: ["api"]))
            _ = try await TestAgent.dial(to: gateway, [hello(token), offer]) { $0.answer(200, "first") }
            let client = try await TestClient.https(gateway)
            #expect(try await client.exchange("GET /api HTTP/1.1\r\nHost: app.test\r\n\r\n").body == "first")
            #expect(try await client.exchange("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").status != 200)

            let other = try await gateway.edit { try await $0.create(name: "other").token }
            _ = try await TestAgent.dial(to: gateway, [hello(other), .goaway(Goaway(deadlineMilliseconds: 0))])
            try await eventually("the agent leaves") { try log.lines.contains { $0.contains("agent leaving") } }
        }
    }
}

/// Blocks a thread.
private final class Gate: Sendable {
    private let semaphore = DispatchSemaphore(value: 0)

    func open() { semaphore.signal() }
    func wait() { _ = semaphore.wait(timeout: .now() + 20) }
}
