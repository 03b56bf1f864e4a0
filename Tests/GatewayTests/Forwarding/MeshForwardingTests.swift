import Cluster
import Credentials
import Gateway
import HopProtocol
import NIOCore
import Store
import TestSupport
import Testing
import Tunnel

@Suite("Requests that another replica's agent serves", .timeLimit(.minutes(2)))
struct MeshForwardingTests {
    /// Two replicas of one cluster; the first one has the token.
    private func withTwo(_ body: (_ one: TestGateway, _ two: TestGateway) async throws -> Void) async throws {
        try await TestGateway.with { one in
            try await TestGateway.with(hasToken: false, { $0.store.path = one.folder }) { two in
                try await eventually("the replicas are connected") {
                    one.process.connectedReplicas == 1 && two.process.connectedReplicas == 1
                }
                try await body(one, two)
            }
        }
    }

    private func get(_ gateway: TestGateway, _ host: String = "app.test") async throws -> (status: Int, body: String) {
        let client = try await TestClient.https(gateway)
        let response = try await client.exchange("GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n")
        await client.close()
        return (response.status, response.body)
    }

    @Test("Every replica serves every agent: by a route, by the agent's host, and none after it has left")
    func both() async throws {
        try await withTwo { one, two in
            let agent = try await TestAgent.attach(to: one, hosts: ["a.agent.test"]) { $0.answer(200, "one") }
            try await eventually("the route is served") { try await get(two).status == 200 }
            for host in ["app.test", "a.agent.test"] {
                for gateway in [one, two] { #expect(try await get(gateway, host) == (200, "one")) }
            }
            #expect(try await get(two, "b.agent.test").status == 404)
            agent.close()
            try await eventually("it has left") { try await get(two).status == 503 }
        }
    }

    @Test("An agent that moves to another replica is served by both, before and after")
    func moved() async throws {
        try await withTwo { one, two in
            let first = try await TestAgent.attach(to: one, name: "pod") { $0.answer(200, "at one") }
            try await eventually("it is known") { try await get(two).status == 200 }
            let second = try await TestAgent.attach(
                to: two,
                tokenID: one.token.id,
                secret: one.token.secret,
                name: "pod"
            ) { $0.answer(200, "at two") }
            // A local attachment comes first.
            #expect(try await get(two).body == "at two")
            first.close()
            try await eventually("the first replica follows") { try await get(one).body == "at two" }
            second.close()
        }
    }

    @Test("An attachment that has just left is answered with NOT_HERE, and another one serves the request")
    func notHere() async throws {
        try await withTwo { one, two in
            let leaving = try await TestAgent.attach(to: one, name: "pod-0") { $0.answer(200, "0") }
            _ = try await TestAgent.attach(to: one, name: "pod-1") { $0.answer(200, "1") }
            var seen: Set<String> = []
            try await eventually("both are known") {
                seen.insert(try await get(two).body)
                return seen.isSuperset(of: ["0", "1"])
            }
            leaving.close()
            try await eventually("it has left") { try await get(one).body == "1" }
            // The directory of the second replica follows about a second later.
            for _ in 0..<20 { #expect(try await get(two) == (200, "1")) }
        }
    }

    @Test("Large bodies pass unchanged in both directions, and a body that is not read fills no memory")
    func bodies() async throws {
        try await withTwo { one, two in
            let agent = try await TestAgent.attach(to: one) { request in
                if request.head?.method == "GET" { request.answer(200, "") }
                if request.head?.method == "PUT" { request.holdBody() }
            }
            try await eventually("it is known") { try await get(two).status == 200 }
            let body = String(repeating: "0123456789abcdef", count: 300_000)
            func begin(_ method: String, _ count: Int) async throws -> TestClient {
                let client = try await TestClient.https(two)
                try await client.send("\(method) / HTTP/1.1\r\nHost: app.test\r\nContent-Length: \(count)\r\n\r\n")
                return client
            }
            let client = try await begin("POST", body.utf8.count)
            client.send(ByteBuffer(string: body))
            func received() -> TestRequest? { agent.requests.last { $0.head?.method == "POST" } }
            try await eventually("the whole body") { received()?.seen.isEnded == true }
            let request = try #require(received())
            #expect(request.body == body && request.field("x-request-id") != nil)
            request.answer(200, body)
            try await eventually("the whole response") { client.text.hasSuffix(body) }
            // The agent gives no credit: the gateways take what fits their windows.
            let held = try await begin("PUT", 64 << 20)
            let written = held.sendAll(Array(repeating: ByteBuffer(string: body), count: 14))
            try await eventually("the beginning of the body") {
                agent.requests.contains { $0.head?.method == "PUT" && !$0.seen.body.isEmpty }
            }
            for _ in 0..<20 { #expect(try await get(two).status == 200) }
            let first = try #require(agent.requests.first { $0.head?.method == "PUT" })
            #expect(first.seen.body.count < 2_000_000 && !written.isDone)
            await held.leave()
            let leaving = try await begin("DELETE", 0)
            try await eventually("a request") { agent.requests.last?.head?.method == "DELETE" }
            await leaving.leave()
            try await eventually("the agent is told") { agent.requests.last?.seen.stoppedCode == .cancelled }
        }
    }
}
