import Gateway
import HopProtocol
import NIOCore
import TestSupport
import Testing

@Suite("WebSocket upgrades")
struct UpgradeTests {
    private static let request =
        "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

    @Test("Behind a 101 bytes pass both ways, and each direction ends for itself")
    func upgrade() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { request in
                request.upgraded()
                request.accept()
                request.head(101, ["Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="])
                request.data("hi")
            }
            let client = try await TestClient.https(gateway)
            try await client.send(Self.request)
            try await client.waitFor("\r\n\r\nhi")
            #expect(client.text.hasPrefix("HTTP/1.1 101 Switching Protocols\r\n"))
            #expect(client.text.contains("Connection: Upgrade\r\nUpgrade: websocket\r\n"))
            let request = agent.requests[0]
            #expect(request.field("upgrade") == "websocket")
            #expect(request.field("sec-websocket-key") == "dGhlIHNhbXBsZSBub25jZQ==")
            #expect(!request.seen.isEnded)
            try await client.send("ping")
            try await eventually("the client's bytes") { request.body == "ping" }
            try await client.closeOutput()
            try await eventually("the client's end") { request.seen.isEnded }
            request.data("after")
            try await client.waitFor("after")
            request.finish()
            try await client.waitForClose()
        }
    }

    @Test("A refused upgrade is an ordinary response")
    func refused() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { $0.answer(403, "no") }
            let client = try await TestClient.https(gateway)
            let response = try await client.exchange(Self.request)
            #expect(response.status == 403)
            #expect(response["connection"] == "close")
            try await eventually("the end of the request") { agent.requests[0].seen.isEnded }
        }
    }

    @Test("A 101 without a request for an upgrade is a bad gateway")
    func unasked() async throws {
        try await TestGateway.with { gateway in
            _ = try await TestAgent.attach(to: gateway) { $0.head(101) }
            let client = try await TestClient.https(gateway)
            #expect(try await client.exchange("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").status == 502)
        }
    }

    @Test("An abrupt end of the client resets the stream")
    func abrupt() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { request in
                request.upgraded()
                request.head(101)
            }
            let client = try await TestClient.https(gateway)
            try await client.send(Self.request)
            try await client.waitFor("101")
            await client.close()
            try await eventually("the end", within: .seconds(3)) {
                let seen = agent.requests[0].seen
                return seen.isFailed || seen.isEnded
            }
        }
    }

    @Test("Traffic from the server alone keeps an upgraded connection")
    func serverOnly() async throws {
        try await TestGateway.with({ $0.timeouts.webSocketIdle = .milliseconds(500) }) { gateway in
            let agent = try await TestAgent.attach(to: gateway) { request in
                request.upgraded()
                request.head(101)
            }
            let client = try await TestClient.https(gateway)
            try await client.send(Self.request)
            try await client.waitFor("\r\n\r\n")
            let clock = ContinuousClock()
            let end = clock.now + .seconds(2)
            var sent = 0
            while clock.now < end, !client.isClosed {
                sent += 1
                agent.requests[0].data("<\(sent)>")
                try await client.waitFor("<\(sent)>")
            }
            #expect(!client.isClosed)
            // And without any it ends.
            try await client.waitForClose()
        }
    }

    @Test("Nothing is read behind an upgrade until it is answered, and nothing is lost then")
    func earlyBytes() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { $0.upgraded() }
            let client = try await TestClient.https(gateway)
            try await client.send(Self.request)
            try await eventually("the request") { agent.requests.count == 1 }
            // More than the kernel's buffers take.
            let piece = ByteBuffer(repeating: 0x61, count: 1 << 20)
            let written = client.sendAll(Array(repeating: piece, count: 48))
            let other = try await TestClient.https(gateway)
            for _ in 0..<200 {
                #expect(try await other.exchange("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").status == 404)
            }
            #expect(!written.isDone)
            agent.requests[0].head(101)
            try await eventually("all bytes", within: .seconds(30)) { agent.requests[0].seen.body.count == 48 << 20 }
        }
    }

    @Test("A client that leaves before its upgrade is answered stops the agent")
    func leavesEarly() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { $0.accept() }
            let client = try await TestClient.https(gateway)
            try await client.send(Self.request)
            try await eventually("the request") { agent.requests.count == 1 }
            await client.leave()
            try await eventually("the reset", within: .seconds(2)) { agent.requests[0].seen.isFailed }
        }
    }

    @Test("Another upgrade is ignored: the body is forwarded, the answer ends the connection")
    func otherUpgrade() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { request in
                Task {
                    try await eventually("the body") { request.seen.isEnded }
                    request.answer(200, "plain")
                }
            }
            let client = try await TestClient.https(gateway)
            try await client.send(
                "POST / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                    + "HTTP2-Settings: AAA\r\nContent-Length: 4\r\n\r\nbo"
            )
            try await eventually("the first half") { agent.requests.first?.body == "bo" }
            try await client.send("dy")
            // The connection goes on reading, and dropping, while it closes.
            for _ in 0..<16 { client.send(ByteBuffer(repeating: 0x61, count: 32 * 1024)) }
            try await client.waitFor("plain")
            #expect(client.text.contains("Connection: close\r\n"))
            #expect(agent.requests[0].body == "body")
        }
    }

    @Test("An agent that ends its direction and wants no more of the client's ends the request")
    func stopped() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { request in
                request.upgraded()
                request.head(101)
                request.finish()
            }
            let client = try await TestClient.https(gateway)
            try await client.send(Self.request)
            try await client.waitFor("101")
            agent.requests[0].stopSending(.noError)
            let ops = try await TestClient.connect(to: gateway.process.opsAddress, serverName: nil)
            try await eventually("no request in flight", within: .seconds(3)) {
                let metrics = try await ops.exchange("GET /metrics HTTP/1.1\r\nHost: ops\r\n\r\n").body
                return metrics.contains("hopgate_http_requests_in_flight 0\n")
            }
        }
    }
}
