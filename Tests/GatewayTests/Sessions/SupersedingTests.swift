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

/// Blocks a thread.
private final class Gate: Sendable {
    private let semaphore = DispatchSemaphore(value: 0)

    func open() { semaphore.signal() }
    func wait() { _ = semaphore.wait(timeout: .now() + 20) }
}
