import Gateway
import HopProtocol
import NIOCore
import TestSupport
import Testing
import Tunnel

@Suite("Responses to failures behind the gateway")
struct FailureTests {
    private static let get = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"

    @Test("An unknown host is 404, a known one without an agent 503 with Retry-After, each with its request id")
    func noAgent() async throws {
        try await TestGateway.with { gateway in
            let client = try await TestClient.https(gateway)
            let unknown = try await client.exchange("GET / HTTP/1.1\r\nHost: other.test\r\nAccept: text/html\r\n\r\n")
            #expect(unknown.status == 404)
            #expect(unknown["content-type"] == "text/html; charset=utf-8")
            let id = try #require(unknown["x-request-id"])
            #expect(unknown.body.contains(id))
            let absent = try await client.exchange(
                "GET / HTTP/1.1\r\nHost: absent.test\r\nAccept: application/json\r\n\r\n"
            )
            #expect(absent.status == 503)
            #expect(absent["retry-after"] == "1")
            #expect(absent.body.contains("\"request_id\":\"\(absent["x-request-id"] ?? "?")\""))
        }
    }

    @Test(
        "A reset becomes the status of its code",
        arguments: [
            (HopCode.originUnreachable, 502), (.originTimeout, 504), (.unknownService, 503), (.busy, 503),
            (.alreadyRan, 502), (.internalError, 502), (.deadline, 504), (.originProtocol, 502), (.originAborted, 502),
        ]
    )
    func reset(code: HopCode, status: Int) async throws {
        try await TestGateway.with { gateway in
            _ = try await TestAgent.attach(to: gateway) { $0.reset(code) }
            let client = try await TestClient.https(gateway)
            let response = try await client.exchange(Self.get)
            #expect(response.status == status)
            #expect((response["retry-after"] != nil) == (status == 503))
            #expect(!client.isClosed)
        }
    }

    @Test("A request that did not start goes to another agent, its body with it")
    func retry() async throws {
        try await TestGateway.with { gateway in
            let busy = try await TestAgent.attach(to: gateway, name: "busy") { request in
                // Only after some of the body was seen.
                Task {
                    try await eventually("the body") { request.seen.isEnded }
                    request.reset(.busy)
                }
            }
            let client = try await TestClient.https(gateway)
            try await client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbo")
            try await eventually("the first attempt") { busy.requests.count == 1 }
            let free = try await TestAgent.attach(to: gateway, name: "free") { _ in }
            try await client.send("dy")
            try await eventually("the second attempt") { free.requests.first?.seen.isEnded == true }
            #expect(free.requests[0].body == "body")
            #expect(free.requests[0].head?.attempt == 2)
            #expect(free.requests[0].head?.requestID == busy.requests[0].head?.requestID)
            free.requests[0].answer(200, "done")
            try await client.waitFor("done")
        }
    }

    @Test("A POST that may have started is not run again when its agent is lost")
    func noRetry() async throws {
        try await TestGateway.with { gateway in
            let first = try await TestAgent.attach(to: gateway, name: "one") { $0.accept() }
            let client = try await TestClient.https(gateway)
            try await client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n")
            try await eventually("the request") { first.requests.count == 1 }
            let second = try await TestAgent.attach(to: gateway, name: "two") { $0.answer(200, "second") }
            first.close()
            try await client.waitFor("request id")
            #expect(client.text.hasPrefix("HTTP/1.1 502 "))
            #expect(second.requests.isEmpty)
        }
    }

    @Test("A GET without a response byte goes to another agent when its agent is lost")
    func idempotentRetry() async throws {
        try await TestGateway.with { gateway in
            let first = try await TestAgent.attach(to: gateway, name: "one") { $0.accept() }
            let client = try await TestClient.https(gateway)
            try await client.send(Self.get)
            try await eventually("the request") { first.requests.count == 1 }
            _ = try await TestAgent.attach(to: gateway, name: "two") { $0.answer(200, "second") }
            first.close()
            try await client.waitFor("second")
        }
    }

    @Test("The deadline of the route is 504 and stops the agent")
    func deadline() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { $0.accept() }
            let client = try await TestClient.https(gateway, host: "slow.test")
            let response = try await client.exchange("GET / HTTP/1.1\r\nHost: slow.test\r\n\r\n")
            #expect(response.status == 504)
            try await eventually("STOP_SENDING") { agent.requests[0].seen.stoppedCode == .deadline }
        }
    }

    @Test("A client that leaves stops the agent")
    func clientGone() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { $0.accept() }
            let client = try await TestClient.https(gateway)
            try await client.send(Self.get)
            try await eventually("the request") { agent.requests.count == 1 }
            await client.close()
            try await eventually("STOP_SENDING", within: .seconds(2)) {
                agent.requests[0].seen.stoppedCode == .cancelled
            }
        }
    }

    @Test("A response that breaks off never looks complete", arguments: ["length", "chunked", "http10"])
    func truncated(framing: String) async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { request in
                request.accept()
                if framing == "length" { request.head(200, ["Content-Length": "100"]) } else { request.head(200) }
                request.data("partial")
            }
            let client = try await TestClient.https(gateway)
            let version = framing == "http10" ? "1.0" : "1.1"
            try await client.send("GET / HTTP/\(version)\r\nHost: app.test\r\n\r\n")
            try await client.waitFor("partial")
            agent.requests[0].reset(.originAborted)
            try await client.waitForClose()
            #expect(!client.text.contains("0\r\n\r\n"))
        }
    }

    @Test("FIN short of the Content-Length is a broken response, not a complete one")
    func shortBody() async throws {
        try await TestGateway.with { gateway in
            _ = try await TestAgent.attach(to: gateway) { request in
                request.head(200, ["Content-Length": "100"])
                request.data("short")
                request.finish()
            }
            let client = try await TestClient.https(gateway)
            try await client.send(Self.get)
            try await client.waitForClose()
            #expect(client.text.contains("Content-Length: 100"))
        }
    }

    @Test("An answer before the end of the upload is delivered whole, then the connection ends")
    func earlyResponse() async throws {
        try await TestGateway.with { gateway in
            _ = try await TestAgent.attach(to: gateway) { request in
                request.answer(413, "too much")
                request.stopSending(.noError)
            }
            let client = try await TestClient.https(gateway)
            try await client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100000000\r\n\r\nstart")
            try await client.waitFor("too much")
            #expect(client.text.contains("Connection: close\r\n"))
            try await client.waitForClose()
        }
    }

    @Test("An agent at its limit of requests is busy: 503")
    func limit() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway, maxRequests: 1) { $0.accept() }
            let first = try await TestClient.https(gateway)
            try await first.send(Self.get)
            try await eventually("the first request") { agent.requests.count == 1 }
            let second = try await TestClient.https(gateway)
            let response = try await second.exchange(Self.get)
            #expect(response.status == 503)
            #expect(agent.requests.count == 1)
            agent.requests[0].answer(200, "one")
            try await first.waitFor("one")
        }
    }

    @Test("After ACCEPTED no reset proves any more that a request did not start")
    func acceptedThenRefused() async throws {
        try await TestGateway.with { gateway in
            let first = try await TestAgent.attach(to: gateway, name: "one") { $0.accept() }
            let post = try await TestClient.https(gateway)
            try await post.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n")
            let get = try await TestClient.https(gateway)
            try await get.send(Self.get)
            try await eventually("the requests") { first.requests.count == 2 }
            let second = try await TestAgent.attach(to: gateway, name: "two") { $0.answer(200, "second") }
            for request in first.requests { request.reset(.busy) }
            try await post.waitFor("request id")
            #expect(post.text.hasPrefix("HTTP/1.1 503 "))
            try await get.waitFor("second")
            #expect(second.requests.map(\.head?.method) == ["GET"])
        }
    }

    @Test("ACCEPTED of one attempt does not count for the next")
    func acceptedIsOfAnAttempt() async throws {
        try await TestGateway.with { gateway in
            let first = try await TestAgent.attach(to: gateway, name: "one") { $0.accept() }
            let client = try await TestClient.https(gateway)
            try await client.send("PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbody")
            try await eventually("the first attempt") { first.requests.first?.seen.isEnded == true }
            let second = try await TestAgent.attach(to: gateway, name: "two") { _ in }
            first.requests[0].reset(.busy)
            try await eventually("the second attempt") { second.requests.first?.seen.isEnded == true }
            let third = try await TestAgent.attach(to: gateway, name: "three") { $0.answer(200, "third") }
            second.requests[0].reset(.busy)
            try await client.waitFor("third")
            #expect(third.requests[0].body == "body")
        }
    }

    @Test("32 interim heads pass, one more makes the response invalid", arguments: [32, 33])
    func interimHeads(count: Int) async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { request in
                for _ in 0..<count { request.head(103, ["Link": "</style.css>"]) }
                if count <= 32 { request.answer(200, "final") }
            }
            let client = try await TestClient.https(gateway)
            try await client.send(Self.get)
            try await client.waitFor(count <= 32 ? "final" : "request id")
            #expect(client.text.contains(count <= 32 ? "HTTP/1.1 200 OK" : "HTTP/1.1 502 "))
            if count > 32 {
                try await eventually("STOP_SENDING") {
                    agent.requests[0].seen.stoppedCode == .protocolViolation
                }
            }
        }
    }
}
