import Gateway
import HopProtocol
import NIOCore
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

    @Test("A 101 that nobody asked for is a bad gateway")
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
}
