import Credentials
import Formats
import Gateway
import HopProtocol
import NIOCore
import Settings
import TestSupport
import Testing

@Suite("The hosts that agents offer")
struct HostOwnershipTests {
    private func get(_ client: TestClient, _ host: String) async throws -> (status: Int, body: String) {
        let response = try await client.exchange("GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n")
        return (response.status, response.body)
    }

    @Test("A request for a host reaches agents that offer it only, and none after they have left")
    func never() async throws {
        try await TestGateway.with { gateway in
            let one = try await TestAgent.attach(to: gateway, name: "1", hosts: ["a.agent.test", "*.w.agent.test"]) {
                $0.answer(200, "one")
            }
            let two = try await TestAgent.attach(to: gateway, name: "2", hosts: ["b.agent.test", "x.w.agent.test"]) {
                $0.answer(200, "two")
            }
            let client = try await TestClient.https(gateway)
            for _ in 0..<20 {
                for (host, body) in [("a", "one"), ("b", "two"), ("x.w", "two"), ("y.w", "one")] {
                    #expect(try await get(client, "\(host).agent.test").body == body)
                }
            }
            two.close()
            try await eventually("503") { try await get(client, "b.agent.test").status == 503 }
            // The wildcard is of the same token.
            #expect(try await get(client, "x.w.agent.test").body == "one")
            #expect(try await get(client, "a.agent.test").body == "one")
            #expect(one.requests.allSatisfy { $0.head?.authority != "b.agent.test" })
            #expect(one.hosts.isEmpty)
        }
    }

    @Test("The host of an agent that has left or is leaving falls to no wildcard of another token")
    func wildcardOfAnother() async throws {
        try await TestGateway.with { gateway in
            let own = try await gateway.edit { editor in
                try await editor.create(name: "own", services: ["*"], hosts: ["x.w.agent.test"]).token
            }
            _ = try await TestAgent.attach(to: gateway, name: "1", hosts: ["*.w.agent.test"]) { $0.answer(200, "wide") }
            let agent = try await TestAgent.attach(
                to: gateway,
                tokenID: own.id,
                secret: own.secret,
                name: "2",
                hosts: ["x.w.agent.test"]
            ) { $0.answer(200, "own") }
            let client = try await TestClient.https(gateway)
            #expect(try await get(client, "x.w.agent.test").body == "own")
            agent.close()
            try await eventually("503") { try await get(client, "x.w.agent.test").status == 503 }
            #expect(try await get(client, "y.w.agent.test").body == "wide")
            // A token that was revoked has no hosts.
            _ = try await gateway.edit { try await $0.revoke(own.id) }
            try await eventually("the wildcard") { try await get(client, "x.w.agent.test").body == "wide" }
        }
    }

    @Test("The hosts of an agent that is leaving pass to another token that claims them")
    func leaving() async throws {
        try await TestGateway.with { gateway in
            let specific = try await gateway.edit { editor in
                try await editor.create(name: "own", services: ["*"], hosts: ["a.agent.test"]).token
            }
            let wide = try await TestAgent.attach(to: gateway, name: "1", hosts: ["a.agent.test"]) {
                $0.answer(200, "wide")
            }
            let owner = try await TestAgent.attach(
                to: gateway,
                tokenID: specific.id,
                secret: specific.secret,
                name: "2",
                hosts: ["a.agent.test"]
            ) { $0.answer(200, "own") }
            let client = try await TestClient.https(gateway)
            #expect(try await get(client, "a.agent.test").body == "own")
            try owner.send([.goaway(Goaway(deadlineMilliseconds: 1_000, spreadMilliseconds: 0))])
            try await eventually("the other token's agent") { try await get(client, "a.agent.test").body == "wide" }
            try await eventually("it is told") { wide.hosts.last == Hosts(unserved: []) }
        }
    }

    @Test("An agent that attaches under the name of another one does not interrupt the host that only that one offers")
    func sameName() async throws {
        try await TestGateway.with { gateway in
            _ = try await TestAgent.attach(to: gateway, name: "pod", hosts: ["a.agent.test"]) { $0.answer(200, "one") }
            let client = try await TestClient.https(gateway)
            for number in 0..<10 {
                let other = try await TestAgent.attach(to: gateway, name: "pod", hosts: ["b\(number).agent.test"])
                let (status, body) = try await get(client, "a.agent.test")
                #expect(status == 200 && body == "one")
                other.close()
            }
        }
    }

    @Test("A host of two tokens belongs to the one that names it more specifically; the other is told, and follows it")
    func owner() async throws {
        try await TestGateway.with { gateway in
            let specific = try await gateway.edit { editor in
                try await editor.create(name: "own", services: ["*"], hosts: ["a.agent.test"]).token
            }
            let client = try await TestClient.https(gateway)
            let wide = try await TestAgent.attach(to: gateway, name: "1", hosts: ["a.agent.test", "b.agent.test"]) {
                $0.answer(200, "wide")
            }
            #expect(try await get(client, "a.agent.test").body == "wide")
            let owner = try await TestAgent.attach(
                to: gateway,
                tokenID: specific.id,
                secret: specific.secret,
                name: "2",
                hosts: ["a.agent.test"]
            ) { $0.answer(200, "specific") }
            try await eventually("the earlier agent is told") { wide.hosts == [Hosts(unserved: ["a.agent.test"])] }
            #expect(try await get(client, "a.agent.test").body == "specific")
            #expect(try await get(client, "b.agent.test").body == "wide")
            let late = try await TestAgent.attach(to: gateway, name: "3", hosts: ["a.agent.test"])
            try await eventually("a later agent is told") { late.hosts == [Hosts(unserved: ["a.agent.test"])] }
            #expect(owner.hosts.isEmpty)
            late.close()
            owner.close()
            try await eventually("the host is back") { wide.hosts.last == Hosts(unserved: []) }
            #expect(try await get(client, "a.agent.test").body == "wide")
        }
    }

    @Test("A host with a route to another token is not the agent's, and the agent is told")
    func routed() async throws {
        func routes(_ configuration: inout GatewayConfiguration) {
            configuration.routes.append(Route(host: "*.routed.agent.test", agent: "other", service: "web"))
            configuration.routes.append(Route(host: "mine.agent.test", agent: "demo", service: "web"))
        }
        try await TestGateway.with(routes) { gateway in
            let hosts = ["x.routed.agent.test", "*.y.routed.agent.test", "mine.agent.test", "free.agent.test"]
            let agent = try await TestAgent.attach(to: gateway, hosts: hosts)
            try await eventually("the agent is told") {
                agent.hosts == [Hosts(unserved: ["x.routed.agent.test", "*.y.routed.agent.test"])]
            }
        }
    }

    @Test("Many SERVICES are applied once a second, the last one for certain, and none that changes nothing")
    func pace() async throws {
        let log = try TestLog()
        try await TestGateway.with(log: log) { gateway in
            let agent = try await TestAgent.attach(to: gateway, services: ["web"]) { $0.answer(200, "") }
            let same = ControlMessage.services(Services(services: ["web"]))
            try agent.send((0..<50).map { _ in same })
            let client = try await TestClient.https(gateway)
            let began = NIODeadline.now()
            var offers = (0..<300).map { number in
                ControlMessage.services(Services(services: ["web"], hosts: ["h\(number).agent.test"]))
            }
            offers.append(.services(Services(services: ["web"], hosts: ["last.agent.test"])))
            try agent.send(offers)
            try await eventually("the last offer is served") {
                try await get(client, "last.agent.test").status == 200
            }
            // The first one was applied at once, and the last one after a second.
            #expect(NIODeadline.now() - began >= .milliseconds(900))
            #expect(try await get(client, "h0.agent.test").status == 503)
            #expect(try await get(client, "h1.agent.test").status == 404)
            #expect(agent.closed == nil)
        }
    }
}
