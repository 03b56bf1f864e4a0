import Credentials
import Gateway
import HopProtocol
import NIOCore
import TestSupport
import Testing
import Transport
import Tunnel

@Suite("Admission of agents")
struct AdmissionTests {
    @Test("A wrong secret and an unknown token are refused with the same message")
    func refused() async throws {
        try await TestGateway.with { gateway in
            let wrong = try await TestAgent.attach(to: gateway, secret: "nonsense", isReady: false)
            let unknown = try await TestAgent.attach(to: gateway, tokenID: "aaaaaaaaaaaaaaaa", isReady: false)
            for agent in [wrong, unknown] {
                try await eventually("the session is closed") { agent.closed != nil }
                #expect(agent.welcome == nil)
                #expect(agent.error?.code == .authFailed)
                #expect(agent.error?.message == "the token is not accepted")
                guard case .peer(let code, _)? = agent.closed else {
                    Issue.record("closed by \(String(describing: agent.closed))")
                    continue
                }
                #expect(HopCode(code) == .authFailed)
            }
        }
    }

    @Test("A refusal names the service or host that the token does not allow")
    func notAllowed() async throws {
        try await TestGateway.with(services: ["web"], hosts: ["a.test"]) { gateway in
            let service = try await TestAgent.attach(to: gateway, services: ["web", "db"], isReady: false)
            try await eventually("the session is closed") { service.closed != nil }
            #expect(service.error?.message == "the token does not allow the service \"db\"")
            let host = try await TestAgent.attach(to: gateway, services: ["web"], hosts: ["b.test"], isReady: false)
            try await eventually("the session is closed") { host.closed != nil }
            #expect(host.error?.message == "the token does not allow the host \"b.test\"")
        }
    }

    @Test("WELCOME names this process and the keep-alive")
    func welcome() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway)
            #expect(agent.welcome?.incarnation.count == 32)
            #expect(agent.welcome?.keepAliveMilliseconds == 1_000)
        }
    }

    @Test("A host that an agent offers is served, and is answered with 503 after the agent has left")
    func hosts() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway, hosts: ["x.agent.test"]) { $0.answer(200, "mine") }
            let client = try await TestClient.https(gateway)
            let request = "GET / HTTP/1.1\r\nHost: x.agent.test\r\n\r\n"
            #expect(try await client.exchange(request).body == "mine")
            #expect(try await client.exchange("GET / HTTP/1.1\r\nHost: y.agent.test\r\n\r\n").status == 404)
            agent.close()
            try await eventually("503") { try await client.exchange(request).status == 503 }
        }
    }

    @Test(
        "The first token of an empty store works after its creation and rotation, until it is revoked",
        .timeLimit(.minutes(1))
    )
    func fresh() async throws {
        try await TestGateway.with(hasToken: false) { gateway in
            /// Attaches an agent, again while it is refused: a busy machine may not read the store in time.
            func attach(_ token: IssuedToken) async throws -> TestAgent {
                while true {
                    let agent = try await TestAgent.attach(
                        to: gateway,
                        tokenID: token.id,
                        secret: token.secret,
                        isReady: false
                    )
                    try await eventually("an answer") { agent.welcome != nil || agent.closed != nil }
                    if agent.welcome != nil { return agent }
                    try Task.checkCancellation()
                }
            }
            let token = try await gateway.edit { try await $0.create(name: "demo").token }
            let old = try await attach(token)
            let rotated = try await gateway.edit { try await $0.rotate("demo", grace: .zero).token }
            let new = try await attach(rotated)
            try await eventually("the end of the old secret's session", within: .seconds(5)) { old.closed != nil }
            _ = try await gateway.edit { try await $0.revoke("demo") }
            try await eventually("the end of the session", within: .seconds(5)) { new.closed != nil }
            let late = try await TestAgent.attach(
                to: gateway,
                tokenID: token.id,
                secret: rotated.secret,
                isReady: false
            )
            try await eventually("the refusal") { late.closed != nil }
            #expect(late.error?.code == .authFailed)
        }
    }

    @Test("An unknown token is logged as a notice, a wrong secret as a warning")
    func levels() async throws {
        let log = try TestLog()
        try await TestGateway.with(log: log) { gateway in
            for id in [nil, IssuedToken().id] {
                let agent = try await TestAgent.attach(to: gateway, tokenID: id, secret: "nonsense", isReady: false)
                try await eventually("the session is closed") { agent.closed != nil }
            }
            let lines = try log.lines.filter { $0.contains("agent refused") }
            #expect(lines.count == 2)
            #expect(lines[0].contains("warning") && lines[0].contains("wrong_secret"))
            #expect(lines[1].contains("notice") && lines[1].contains("unknown"))
        }
    }

    @Test("A revoked token ends its sessions and is refused afterwards")
    func revoked() async throws {
        try await TestGateway.with { gateway in
            let agent = try await TestAgent.attach(to: gateway) { $0.answer(200, "ok") }
            _ = try await gateway.edit { try await $0.revoke(gateway.token.id) }
            try await eventually("the end of the session", within: .seconds(5)) { agent.closed != nil }
            let again = try await TestAgent.attach(to: gateway, isReady: false)
            try await eventually("the refusal") { again.closed != nil }
            #expect(again.error?.code == .authFailed)
        }
    }

    @Test("A rotation without grace ends the sessions of the previous secret; the new secret is accepted")
    func rotated() async throws {
        try await TestGateway.with { gateway in
            let old = try await TestAgent.attach(to: gateway)
            let token = try await gateway.edit { try await $0.rotate("demo", grace: .zero).token }
            try await eventually("the end of the session", within: .seconds(5)) { old.closed != nil }
            let new = try await TestAgent.attach(to: gateway, secret: token.secret)
            #expect(new.closed == nil)
        }
    }

    @Test("During a grace period both secrets are accepted, and sessions stay")
    func grace() async throws {
        try await TestGateway.with { gateway in
            let old = try await TestAgent.attach(to: gateway)
            let token = try await gateway.edit { try await $0.rotate("demo").token }
            try await eventually("the new secret is known") {
                let new = try await TestAgent.attach(to: gateway, secret: token.secret, isReady: false)
                try await eventually("an answer") { new.welcome != nil || new.closed != nil }
                return new.welcome != nil
            }
            _ = try await TestAgent.attach(to: gateway)
            #expect(old.closed == nil)
        }
    }

    @Test("An agent beyond the limit of its token is refused; further tunnels of attached agents are not")
    func tooMany() async throws {
        let log = try TestLog()
        try await TestGateway.with(maxAgents: 2, log: log) { gateway in
            let run = RunID.random()
            let first = try await TestAgent.attach(to: gateway, name: "one", run: run)
            _ = try await TestAgent.attach(to: gateway, name: "two")
            let third = try await TestAgent.attach(to: gateway, name: "three", isReady: false)
            try await eventually("the session is closed") { third.closed != nil }
            #expect(third.welcome == nil && third.error?.code == .busy)
            let message = "the token allows 2 agents at a time, and as many are attached"
            #expect(third.error?.message == message && third.error?.retryAfterMilliseconds == 1_000)
            #expect(try log.lines.contains { $0.contains(message) })
            let ops = try await TestClient.connect(to: gateway.process.opsAddress, serverName: nil)
            let metrics = try await ops.exchange("GET /metrics HTTP/1.1\r\nHost: ops\r\n\r\n").body
            #expect(metrics.contains("hopgate_agent_auth_failures_total{reason=\"limit\"} 1\n"))
            // The previous session is still open, and does not count against its own run.
            _ = try await TestAgent.attach(to: gateway, name: "one", run: run)
            #expect(first.closed == nil)
            first.close()
            let other = try await TestAgent.attach(to: gateway, name: "three", isReady: false)
            try await eventually("the session is closed") { other.closed != nil }
            #expect(other.error?.code == .busy)
        }
    }

    @Test("After an agent has left, another one gets its place")
    func room() async throws {
        try await TestGateway.with(maxAgents: 1) { gateway in
            let first = try await TestAgent.attach(to: gateway, name: "one")
            first.close()
            try await eventually("room") {
                let second = try await TestAgent.attach(to: gateway, name: "two", isReady: false)
                try await eventually("an answer") { second.welcome != nil || second.closed != nil }
                return second.welcome != nil
            }
        }
    }

    @Test("Two live runs of one name both serve requests")
    func twoRuns() async throws {
        try await TestGateway.with { gateway in
            let first = try await TestAgent.attach(to: gateway) { $0.answer(200, "first") }
            let second = try await TestAgent.attach(to: gateway) { $0.answer(200, "second") }
            let client = try await TestClient.https(gateway)
            try await eventually("both") {
                _ = try await client.exchange("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
                return !first.requests.isEmpty && !second.requests.isEmpty
            }
            #expect(first.closed == nil)
        }
    }

    @Test("Drain notifies agents, finishes requests in flight and then closes the sessions")
    func drain() async throws {
        let gateway = try await TestGateway.start()
        let agent = try await TestAgent.attach(to: gateway) { $0.accept() }
        let client = try await TestClient.https(gateway)
        try await client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        try await eventually("the request") { agent.requests.count == 1 }
        let stopping = Task { await gateway.process.shutDown(grace: .seconds(10)) }
        try await eventually("GOAWAY") { agent.goaway != nil }
        #expect(agent.closed == nil)
        agent.requests[0].answer(200, "last words")
        try await client.waitFor("last words")
        #expect(client.text.contains("Connection: close\r\n"))
        await stopping.value
        #expect(client.isClosed)
        try await eventually("the end of the session") { agent.closed != nil }
    }

    @Test("Repeated refusals of a token are logged once, with a remedy")
    func repeated() async throws {
        let log = try TestLog()
        try await TestGateway.with(log: log) { gateway in
            for _ in 0..<FailureLimiter.failures + 3 {
                let agent = try await TestAgent.attach(to: gateway, secret: "nonsense", isReady: false)
                try await eventually("the session is closed") { agent.closed != nil }
            }
            let lines = try log.lines.filter { $0.contains("agent refused") }
            #expect(lines.count == 1)
            #expect(lines[0].contains("wrong_secret") && lines[0].contains("hopgate token rotate "))
            #expect(lines[0].contains("printed; rotate again only if it is lost"))
        }
    }
}
