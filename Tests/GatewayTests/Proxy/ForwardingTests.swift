import Gateway
import HopProtocol
import NIOCore
import TestSupport
import Testing

@Suite("A request through the tunnel and its response back")
struct ForwardingTests {
    @Test("A GET reaches the agent with its head and the answer comes back")
    func get() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { $0.answer(200, "hello", ["X-From": "origin"]) }
            let client = try await TestClient.https(gateway)
            let response = try await client.exchange(
                "GET /a/b?c=%20d HTTP/1.1\r\nHost: App.test:8443\r\nX-Custom: one\r\nX-Custom: two\r\n"
                    + "Connection: keep-alive, X-Drop\r\nX-Drop: me\r\nX-Forwarded-For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\n"
                    + "Cookie: a=b\r\n\r\n"
            )
            #expect(response.status == 200)
            #expect(response.body == "hello")
            #expect(response["x-from"] == "origin")
            #expect(response["date"] != nil)
            #expect(response["connection"] == nil)
            let request = try #require(agent.requests.first)
            let head = try #require(request.head)
            #expect(head.method == "GET")
            #expect(head.path == "/a/b?c=%20d")
            #expect(head.authority == "App.test:8443")
            #expect(head.service == "web")
            #expect(head.scheme == "https")
            #expect(head.deadline != nil)
            #expect(head.fields.all("x-custom") == ["one", "two"])
            #expect(!head.fields.contains("x-drop"))
            #expect(!head.fields.contains("connection"))
            #expect(!head.fields.contains("host"))
            #expect(!head.fields.contains("x_real_ip"))
            #expect(head.fields.all("x-forwarded-for") == ["127.0.0.1"])
            #expect(head.fields.first("x-forwarded-proto") == "https")
            #expect(head.fields.first("x-forwarded-host") == "App.test:8443")
            #expect(head.fields.first("x-real-ip") == "127.0.0.1")
            #expect(head.fields.first("forwarded") == "for=127.0.0.1;host=\"App.test:8443\";proto=https")
            #expect(head.fields.first("x-request-id") == head.requestID.description)
            #expect(request.seen.isEnded)
        }
    }

    @Test("One connection carries many requests, also pipelined ones, in order")
    func keepAlive() async throws {
        try await TestGateway.with { gateway in
            _ = try await TestAgent.attach(to: gateway) { $0.answer(200, $0.head?.path ?? "") }
            let client = try await TestClient.https(gateway)
            for index in 0..<20 {
                let response = try await client.exchange("GET /\(index) HTTP/1.1\r\nHost: app.test\r\n\r\n")
                #expect(response.body == "/\(index)")
            }
            _ = client.drain()
            try await client.send((0..<50).map { "GET /p\($0). HTTP/1.1\r\nHost: app.test\r\n\r\n" }.joined())
            try await client.waitFor("/p49.")
            let text = client.text
            let places = (0..<50).map { text.firstRange(of: "/p\($0).")?.lowerBound }
            #expect(places.allSatisfy { $0 != nil })
            #expect(zip(places, places.dropFirst()).allSatisfy { $0! < $1! })
        }
    }

    @Test("A body is streamed up with its length, and a chunked one with its trailers")
    func upload() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { _ in }
            let client = try await TestClient.https(gateway)
            try await client.send("POST /up HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\n12345")
            try await eventually("half of the body") { agent.requests.first?.body == "12345" }
            #expect(agent.requests[0].seen.isEnded == false)
            try await client.send("67890")
            try await eventually("the whole body") { agent.requests[0].seen.isEnded }
            #expect(agent.requests[0].body == "1234567890")
            #expect(agent.requests[0].field("content-length") == "10")
            agent.requests[0].answer(201, "made")
            try await client.waitFor("made")

            _ = client.drain()
            try await client.send(
                "PUT /up HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                    + "3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nX-Sum: 7\r\nHost: evil.test\r\n\r\n"
            )
            try await eventually("the second request") { agent.requests.count == 2 && agent.requests[1].seen.isEnded }
            #expect(agent.requests[1].body == "abcdefg")
            #expect(agent.requests[1].field("transfer-encoding") == nil)
            #expect(agent.requests[1].seen.trailers?.first("x-sum") == "7")
            #expect(agent.requests[1].seen.trailers?.contains("host") == false)
            agent.requests[1].answer(200, "ok")
            try await client.waitFor("ok")
        }
    }

    @Test("A response without a length is chunked, with its trailers, and each piece goes out at once")
    func chunked() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { request in
                request.accept()
                request.head(200, ["Content-Type": "text/event-stream"])
                request.data("data: one\n\n")
            }
            let client = try await TestClient.https(gateway)
            try await client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            try await client.waitFor("b\r\ndata: one\n\n\r\n")
            #expect(client.text.contains("Transfer-Encoding: chunked\r\n"))
            agent.requests[0].data("data: two\n\n")
            try await client.waitFor("data: two")
            agent.requests[0].trailers(["X-End": "yes", "Transfer-Encoding": "chunked"])
            agent.requests[0].finish()
            try await client.waitFor("0\r\nX-End: yes\r\n\r\n")
            #expect(!client.isClosed)
        }
    }

    @Test("HEAD, 204 and 304 have no body, and interim responses pass")
    func bodiless() async throws {
        try await TestGateway.with { gateway in
            _ = try await TestAgent.attach(to: gateway) { request in
                request.accept()
                switch request.head?.path {
                case "/204": request.head(204)
                case "/304": request.head(304, ["ETag": "\"x\"", "Content-Length": "5"])
                default:
                    request.head(103, ["Link": "</a.css>; rel=preload"])
                    request.head(200, ["Content-Length": "1234"])
                }
                request.finish()
            }
            let client = try await TestClient.https(gateway)
            try await client.send("HEAD / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            try await client.waitFor("Content-Length: 1234\r\n")
            #expect(
                client.text.hasPrefix(
                    "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\n"
                )
            )
            #expect(try await client.exchange("GET /204 HTTP/1.1\r\nHost: app.test\r\n\r\n").status == 204)
            let notModified = try await client.exchange("GET /304 HTTP/1.1\r\nHost: app.test\r\n\r\n")
            #expect(notModified.status == 304)
            #expect(notModified["content-length"] == "5")
            #expect(notModified.body == "")
        }
    }

    @Test("An expectation passes, and the origin's 100 comes before the body is sent")
    func expectation() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { $0.head(100) }
            let client = try await TestClient.https(gateway)
            try await client.send(
                "POST / HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
            )
            try await client.waitFor("HTTP/1.1 100 Continue\r\n\r\n")
            #expect(agent.requests[0].field("expect") == "100-continue")
            try await client.send("ok")
            try await eventually("the body") { agent.requests[0].seen.isEnded }
            agent.requests[0].answer(200, "fine")
            try await client.waitFor("fine")
        }
    }

    @Test("An HTTP/1.0 client gets no chunks, no interim response, and the end of the connection as the end")
    func oldClient() async throws {
        try await TestGateway.with { gateway in
            _ = try await TestAgent.attach(to: gateway) { request in
                request.head(103)
                request.head(200)
                request.data("old")
                request.finish()
            }
            let client = try await TestClient.https(gateway)
            try await client.send("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n")
            try await client.waitForClose()
            #expect(client.text.hasPrefix("HTTP/1.1 200 OK\r\n"))
            #expect(client.text.hasSuffix("Connection: close\r\n\r\nold"))
        }
    }

    @Test("The longest prefix wins and is stripped if the route is configured so")
    func prefix() async throws {
        try await TestGateway.with { gateway in
            _ = try await TestAgent.attach(to: gateway) { $0.answer(200, "\($0.head!.service) \($0.head!.path)") }
            let client = try await TestClient.https(gateway)
            #expect(try await client.exchange("GET /api/x?y HTTP/1.1\r\nHost: app.test\r\n\r\n").body == "api /x?y")
            #expect(try await client.exchange("GET /apix HTTP/1.1\r\nHost: app.test\r\n\r\n").body == "web /apix")
            let refused = try await client.exchange("GET /api/..%2fx HTTP/1.1\r\nHost: app.test\r\n\r\n")
            #expect(refused.status == 400)
        }
    }

    @Test("A large download arrives whole while its client is slow, and the agent is held back")
    func backPressure() async throws {
        try await TestGateway.with { gateway in
            let size = 24 << 20
            let agent = try await TestAgent.attach(to: gateway) { request in
                request.head(200, ["Content-Length": "\(size)"])
                let chunk = ByteBuffer(repeating: 0x61, count: 64 << 10)
                for _ in 0..<size / (64 << 10) { request.data(chunk) }
                request.finish()
            }
            let client = try await TestClient.https(gateway)
            try await client.send("GET /big HTTP/1.1\r\nHost: app.test\r\n\r\n")
            try await eventually("the whole body", within: .seconds(60)) { client.received.count > size }
            let text = client.received
            let head = try #require(text.firstRange(of: Array("\r\n\r\n".utf8)))
            #expect(text.count - head.upperBound == size)
            #expect(agent.requests.count == 1)
        }
    }

    @Test("A large upload arrives whole")
    func largeUpload() async throws {
        try await TestGateway.with { gateway in
            let size = 16 << 20
            let agent = try await TestAgent.attach(to: gateway) { _ in }
            let client = try await TestClient.https(gateway)
            try await client.send("POST /big HTTP/1.1\r\nHost: app.test\r\nContent-Length: \(size)\r\n\r\n")
            for _ in 0..<size / (64 << 10) { client.send(ByteBuffer(repeating: 0x62, count: 64 << 10)) }
            try await eventually("the whole body", within: .seconds(60)) {
                agent.requests.first?.seen.isEnded == true
            }
            #expect(agent.requests[0].seen.body.count == size)
            agent.requests[0].answer(200, "thanks")
            try await client.waitFor("thanks")
        }
    }
}
