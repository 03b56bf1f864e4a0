import Gateway
import HopProtocol
import NIOCore
import Settings
import TestSupport
import Testing

@Suite("The public edge")
struct EdgeTests {
    @Test(
        "An ambiguous request is refused and the connection ends",
        arguments: [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: app.test@evil\r\n\r\n", 400),
            (
                "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                400
            ),
            ("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
            ("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: +1\r\n\r\na", 400),
            ("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
            ("POST / HTTP/1.0\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: app.test\r\nBad Header: x\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nHost: app.test\r\n\r\n", 505),
            ("CONNECT app.test:443 HTTP/1.1\r\nHost: app.test\r\n\r\n", 405),
            ("TRACE / HTTP/1.1\r\nHost: app.test\r\n\r\n", 405),
            ("GET ftp://app.test/ HTTP/1.1\r\nHost: app.test\r\n\r\n", 400),
        ]
    )
    func refused(request: String, status: Int) async throws {
        try await TestGateway.with(loops: 1) { gateway in
            let client = try await TestClient.https(gateway)
            try await client.send(request)
            try await client.waitForClose()
            #expect(TestResponse(client.text)?.status == status)
            #expect(TestResponse(client.text)?["connection"] == "close")
        }
    }

    @Test("A head above its limits is 431")
    func headLimits() async throws {
        try await TestGateway.with(loops: 1) { gateway in
            let fields = (0..<200).map { "X-\($0): v\r\n" }.joined()
            for request in [
                "GET / HTTP/1.1\r\nHost: app.test\r\n\(fields)\r\n",
                "GET / HTTP/1.1\r\nHost: app.test\r\nX: \(String(repeating: "a", count: 70_000))\r\n\r\n",
            ] {
                let client = try await TestClient.https(gateway)
                try await client.send(request)
                try await client.waitForClose()
                #expect(TestResponse(client.text)?.status == 431)
            }
        }
    }

    @Test("The authority of an absolute target replaces Host")
    func absoluteForm() async throws {
        try await TestGateway.with(loops: 1) { gateway in
            let agent = try await TestAgent.attach(to: gateway) { $0.answer(200, "ok") }
            let client = try await TestClient.https(gateway)
            let response = try await client.exchange("GET https://app.test/x?y HTTP/1.1\r\nHost: other.test\r\n\r\n")
            #expect(response.status == 200)
            #expect(agent.requests[0].head?.authority == "app.test")
            #expect(agent.requests[0].head?.path == "/x?y")
        }
    }

    @Test("Plain HTTP redirects known hosts to HTTPS and tells unknown ones nothing")
    func redirect() async throws {
        try await TestGateway.with(loops: 1) { gateway in
            let client = try await TestClient.connect(to: gateway.process.httpAddress, serverName: nil)
            let port = try #require(gateway.process.httpsAddress.port)
            let get = try await client.exchange("GET /a?b HTTP/1.1\r\nHost: APP.test:80\r\n\r\n")
            #expect(get.status == 301)
            #expect(get["location"] == "https://app.test:\(port)/a?b")
            let post = try await client.exchange("POST /a HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n")
            #expect(post.status == 308)
            #expect(try await client.exchange("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").status == 404)
        }
    }

    @Test("A head that does not arrive in time is 408")
    func headerTimeout() async throws {
        try await TestGateway.with(loops: 1, { $0.timeouts.header = .milliseconds(400) }) { gateway in
            let client = try await TestClient.https(gateway)
            try await client.send("GET / HTTP/1.1\r\nHost: app")
            try await client.waitForClose()
            #expect(TestResponse(client.text)?.status == 408)
        }
    }

    @Test("An idle connection is closed, and one that never shakes hands too")
    func idle() async throws {
        try await TestGateway.with(
            loops: 1,
            {
                $0.timeouts.keepAliveIdle = .milliseconds(300)
                $0.timeouts.tlsHandshake = .milliseconds(300)
            }
        ) { gateway in
            let client = try await TestClient.https(gateway)
            #expect(try await client.exchange("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").status == 404)
            try await client.waitForClose()
            let silent = try await TestClient.connect(to: gateway.process.httpsAddress, serverName: nil)
            try await silent.waitForClose()
        }
    }

    @Test("A body that stops arriving is 408 and resets the agent's stream")
    func bodyTimeout() async throws {
        try await TestGateway.with(loops: 1, { $0.timeouts.bodyIdle = .milliseconds(400) }) { gateway in
            let agent = try await TestAgent.attach(to: gateway)
            let client = try await TestClient.https(gateway)
            try await client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nabc")
            try await client.waitForClose()
            #expect(TestResponse(client.text)?.status == 408)
            try await eventually("the reset") { agent.requests[0].seen.isFailed }
        }
    }

    @Test("A second process on the same port does not start")
    func portTaken() async throws {
        try await TestGateway.with(loops: 1) { gateway in
            let port = try #require(gateway.process.httpsAddress.port)
            await #expect(throws: GatewayStartError.self) {
                _ = try await TestGateway.start(loops: 1) { $0.httpsListen.port = port }
            }
        }
    }

    @Test("The 400 for a malformed head reaches a client that is still sending")
    func malformedAndMore() async throws {
        try await TestGateway.with(loops: 1) { gateway in
            let client = try await TestClient.https(gateway)
            try await client.send("GET / HTTP/1.1\r\nHost: app.test\r\nBad Header: x\r\n\r\n")
            for _ in 0..<64 { client.send(ByteBuffer(repeating: 0x61, count: 32 * 1024)) }
            try await client.waitForClose()
            #expect(TestResponse(client.text)?.status == 400)
        }
    }
}
