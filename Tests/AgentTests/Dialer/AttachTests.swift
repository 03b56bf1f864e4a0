import Agent
import DTLS
import Glibc
import HopProtocol
import Logging
import NIOCore
import Settings
import TestSupport
import Testing
import Transport
import Tunnel

@Suite(.serialized)
struct AttachTests {
    @Test("HELLO names the agent and what it offers")
    func hello() async throws {
        try await Rig.with(try await TestOrigin.simple(), change: { $0.hosts = ["app.test"] }) { rig in
            let hello = try #require(try await rig.gateway.hellos.wait("HELLO") { !$0.isEmpty }.first)
            #expect(hello.tokenID == "test" && hello.secret == "secret")
            #expect(hello.name == "agent-1")
            #expect(hello.services == ["web"] && hello.hosts == ["app.test"])
            #expect(hello.maxRequests == 1_000)
            #expect(hello.attach == 1)
            try await eventually("ready") { rig.agent.agent.readyTunnels == 1 }
            #expect(!rig.agent.lines.value.contains { $0.text.contains("secret") })
        }
    }

    @Test("A refused token is logged with a remedy, and retried with back-off")
    func authFailed() async throws {
        let refused = ControlMessage.error(ErrorMessage(code: .authFailed, message: "no such token"))
        try await Rig.with(try await TestOrigin.simple(), answer: { _ in refused }) { rig in
            let line = try #require(try await rig.agent.line("refused the token: no such token"))
            // The gateway may not know a new token yet.
            #expect(line.level == .warning)
            #expect(line.text.contains("remedy="))
            try await rig.gateway.hellos.wait("another attempt") { $0.count >= 2 }
            #expect(rig.agent.agent.readyTunnels == 0)
            // A failure that repeats is logged once.
            #expect(rig.agent.lines.value.count { $0.text.contains("refused the token") } == 1)
        }
    }

    @Test("The token and the gateways of a join file that is replaced are used without a restart")
    func joinFileReplaced() async throws {
        let folder = ScratchFolder()
        defer { folder.remove() }
        // The new file is used before that time.
        let refused = ControlMessage.error(
            ErrorMessage(code: .authFailed, message: "old secret", retryAfterMilliseconds: 600_000)
        )
        let answer = { @Sendable (hello: Hello) in hello.secret == "new" ? TestGateway.welcome(hello) : refused }
        let other = try await TestGateway(answer: answer)
        func write(_ gateways: [Int], secret: String) -> String {
            let gateways = gateways.map { "127.0.0.1:\($0)" }
            return folder.write("join", JoinString(gateways: gateways, pin: nil, token: "hgt_test.\(secret)").text)
        }
        try await Rig.with(
            try await TestOrigin.simple(),
            answer: answer,
            change: { configuration in
                configuration.identityFile = IdentityFile(
                    key: "join_file",
                    path: write(configuration.gateways.map(\.port), secret: "old"),
                    definesGateways: true,
                    definesTrust: false
                )
            }
        ) { rig in
            try await rig.gateway.hellos.wait("the old secret") { $0.last?.secret == "old" }
            _ = folder.write("join", "half a join string")
            let problem = try #require(try await rig.agent.line("token file unusable"))
            #expect(problem.text.contains("hgj_") && !problem.text.contains("half"))
            _ = write([rig.gateway.port, other.port], secret: "new")
            try await rig.gateway.sessions.wait("attached") { !$0.isEmpty }
            try await other.sessions.wait("attached to the other gateway") { !$0.isEmpty }
            try await expect { try await rig.agent.line("token file changed")?.text.contains("hgt_test") == true }
            // A gateway that is listed again is dialed again.
            _ = write([rig.gateway.port], secret: "new")
            try await rig.agent.lines.wait("the second change") { lines in
                lines.count { $0.text.contains("token file changed") } == 2
            }
            try await other.session().close(.superseded, reason: "test")
            try await other.sessions.wait("detached") { $0.isEmpty }
            _ = write([rig.gateway.port, other.port], secret: "new")
            try await other.sessions.wait("attached again") { !$0.isEmpty }
        }
        await other.stop()
    }

    @Test("A pin that a join file contains later is used without a restart")
    func pinReplaced() async throws {
        let folder = ScratchFolder()
        defer { folder.remove() }
        let stranger = folder.write("ca.pem", TestAuthority.stranger.pem)
        try await Rig.with(
            try await TestOrigin.simple(),
            change: { configuration in
                let gateways = configuration.gateways.map(\.description)
                let pin = TestCertificate.localhost.sha256
                let text = JoinString(gateways: gateways, pin: pin, token: "hgt_test.secret").text
                configuration.trust = .caFile(path: stranger)
                configuration.identityFile = IdentityFile(
                    key: "join_file",
                    path: folder.write("join", text),
                    definesGateways: true,
                    definesTrust: true
                )
            }
        ) { rig in
            try await rig.gateway.sessions.wait("attached") { !$0.isEmpty }
        }
    }

    @Test("A gateway whose certificate does not verify gets no HELLO, and the log names the remedy")
    func unverified() async throws {
        let folder = ScratchFolder()
        defer { folder.remove() }
        let stranger = folder.write("ca.pem", TestAuthority.stranger.pem)
        try await Rig.with(try await TestOrigin.simple(), change: { $0.trust = .caFile(path: stranger) }) { rig in
            let line = try #require(try await rig.agent.line("does not verify"))
            #expect(line.text.contains("--ca-file"))
            #expect(rig.gateway.hellos.value.isEmpty)
        }
    }

    @Test("A gateway that has not the pinned certificate gets no HELLO, and the log explains the pin")
    func wrongPin() async throws {
        let pin = [UInt8](repeating: 7, count: 32)
        try await Rig.with(try await TestOrigin.simple(), change: { $0.trust = .pin(sha256: pin) }) { rig in
            let line = try #require(try await rig.agent.line("neither pinned nor issued by the pinned root"))
            #expect(line.text.contains("hopgate ca") && !line.text.contains("TLSA"))
            #expect(rig.gateway.hellos.value.isEmpty)
        }
    }

    @Test("A certificate for another name is not accepted")
    func wrongName() async throws {
        try await Rig.with(try await TestOrigin.simple(), change: { $0.serverName = "other.test" }) { rig in
            let line = try #require(try await rig.agent.line("does not verify"))
            #expect(line.text.contains("--server-name"))
            #expect(rig.gateway.hellos.value.isEmpty)
        }
    }

    @Test("A port without a listener is logged, and the agent is attached within 2 s of the gateway's start")
    func comesBack() async throws {
        let origin = try await TestOrigin.simple()
        let gateway = try await TestGateway()
        let port = gateway.port
        let agent = try RunningAgent(gatewayPort: port, originPort: origin.port)
        try await gateway.sessions.wait("attached") { !$0.isEmpty }
        await gateway.stop()
        try await eventually("not ready") { agent.agent.readyTunnels == 0 }
        try await expect { try await agent.line("no process listens")?.text.contains("remedy=") == true }
        let second = try await TestGateway(port: port)
        let started = NIODeadline.now()
        try await second.sessions.wait("attached again") { !$0.isEmpty }
        #expect(NIODeadline.now() - started < .seconds(2))
        let attaches = second.hellos.value.map(\.attach)
        #expect(attaches.first ?? 0 > 1)
        try await agent.stop()
        await second.stop()
        await origin.stop()
    }

    @Test("After GOAWAY the agent attaches again at once, and requests on the old tunnel finish")
    func goaway() async throws {
        let origin = try await TestOrigin { peer, request in
            if request.requestLine.contains("slow") { return }
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        }
        try await Rig.with(origin) { rig in
            let old = try await rig.gateway.session()
            let slow = try await rig.gateway.call(try await rig.head("GET", "/slow"), on: old)
            try await slow.log.wait("ACCEPTED") { $0.isAccepted }
            try await rig.gateway.send(.goaway(Goaway(deadlineMilliseconds: 30_000, spreadMilliseconds: 10)))
            try await rig.gateway.sessions.wait("a second tunnel") { $0.count == 2 }
            #expect(rig.gateway.hellos.value.map(\.attach) == [1, 2])
            #expect(!slow.log.value.isOver)
            try await expect { try await rig.get().isComplete }
            try await eventually("one ready tunnel") { rig.agent.agent.readyTunnels == 1 }
        }
    }

    /// Sends an alert to the agent as if the gateway did not know `session`, and loses all that the gateway sends.
    private static func silence(_ session: TunnelSession) async throws {
        try await session.loop.submit {
            session.sender.injectedFailure = { _, _ in 0 }
            withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) { alert in
                let count = DTLSUnknownSessionAlert.write(into: alert)
                _ = session.remoteAddress.withSockAddr { address, length in
                    sendto(session.sender.socket.descriptor, alert.baseAddress, count, 0, address, socklen_t(length))
                }
            }
        }.get()
    }

    @Test(
        "A forged alert while the gateway is silent costs no request: a second tunnel attaches, the first one finishes"
    )
    func forgedAlert() async throws {
        let release = Observed<[OriginPeerReference]>([])
        let origin = try await TestOrigin { peer, request in
            if request.requestLine.contains("slow") {
                release.update { $0.append(OriginPeerReference(peer)) }
            } else {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            }
        }
        try await Rig.with(origin) { rig in
            let old = try await rig.gateway.session()
            let slow = try await rig.gateway.call(try await rig.head("GET", "/slow"), on: old)
            let peer = try #require(try await release.wait("the request") { !$0.isEmpty }.first)
            try await Self.silence(old)
            #expect(try await rig.agent.line("may have lost the tunnel") != nil)
            #expect(rig.agent.agent.readyTunnels == 0)
            try await old.loop.submit { old.sender.injectedFailure = nil }.get()
            try await rig.gateway.sessions.wait("a second tunnel") { $0.count == 2 }
            try await rig.gateway.goaways.wait("the first one is retired") { $0.count == 1 }
            try await eventually("one ready tunnel") { rig.agent.agent.readyTunnels == 1 }
            try await expect { try await rig.get().isComplete }
            #expect(!slow.log.value.isOver)
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            let answer = try await slow.over()
            #expect(answer.isComplete && answer.body == "ok")
            try await rig.gateway.sessions.wait("the first one is closed") { $0.count == 1 }
            #expect(rig.gateway.sessions.value.first !== old)
        }
    }

    @Test("A tunnel that its gateway has lost is replaced, and closes once the new one is welcomed")
    func lostTunnel() async throws {
        let origin = try await TestOrigin { _, _ in }
        try await Rig.with(origin) { rig in
            let old = try await rig.gateway.session()
            _ = try await rig.gateway.call(try await rig.head("GET", "/slow"), on: old)
            try await origin.log.wait("the request") { $0.requests.count == 1 }
            // A new process on the old port: the old one sends nothing when it dies.
            try await old.loop.submit { old.sender.injectedFailure = { _, _ in 101 } }.get()
            let port = rig.gateway.port
            await rig.gateway.listener.close()
            let second = try await TestGateway(port: port)
            try await second.sessions.wait("attached again") { $0.count == 1 }
            #expect(try await rig.agent.line("replaced tunnel closed") != nil)
            try await origin.log.wait("its request has ended") { $0.open == 0 }
            #expect(rig.agent.agent.readyTunnels == 1)
            await second.stop()
        }
    }

    @Test("The end of a tunnel ends its requests at the origin")
    func sessionEnds() async throws {
        let origin = try await TestOrigin { _, _ in }
        try await Rig.with(origin) { rig in
            let call = try await rig.gateway.call(try await rig.head())
            try await origin.log.wait("the request") { $0.requests.count == 1 }
            let session = try await rig.gateway.session()
            session.close(.superseded, reason: "test")
            try await origin.log.wait("closed") { $0.open == 0 }
            _ = try await call.over()
            try await rig.gateway.hellos.wait("attached again") { $0.count >= 2 }
        }
    }

    @Test("A shutdown sends GOAWAY, lets requests in flight finish and refuses new ones")
    func shutdown() async throws {
        let release = Observed<[OriginPeerReference]>([])
        let origin = try await TestOrigin { peer, _ in release.update { $0.append(OriginPeerReference(peer)) } }
        let rig = try await Rig(origin: origin, change: { $0.shutdownGrace = .seconds(10) })
        let call = try await rig.gateway.call(try await rig.head())
        let peer = try #require(try await release.wait("the request") { !$0.isEmpty }.first)
        let session = try await rig.gateway.session()
        let late = try await rig.head("POST")
        rig.agent.agent.shutdown()
        try await rig.gateway.goaways.wait("GOAWAY") { !$0.isEmpty }
        try await expect { try await rig.gateway.call(late, on: session).over().code == .refused }
        #expect(!call.log.value.isOver)
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        let answer = try await call.over()
        #expect(answer.isComplete && answer.body == "ok")
        try await rig.stop()
    }

    @Test("Requests that outlast the grace are aborted, and the agent stops")
    func graceOver() async throws {
        let origin = try await TestOrigin { _, _ in }
        let rig = try await Rig(origin: origin, change: { $0.shutdownGrace = .milliseconds(100) })
        let call = try await rig.gateway.call(try await rig.head())
        try await origin.log.wait("the request") { $0.requests.count == 1 }
        try await rig.agent.stop()
        try await expect { try await call.over().failure != nil }
        await rig.gateway.stop()
        await origin.stop()
    }

    @Test("A lookup that never completes does not delay the shutdown")
    func stopsInLookup() async throws {
        let lookups = Observed<[EventLoopPromise<[SocketAddress]>]>([])
        let agent = try RunningAgent(
            gatewayPort: 1,
            originPort: 1,
            resolve: { _, loop in
                let promise = loop.makePromise(of: [SocketAddress].self)
                lookups.update { $0.append(promise) }
                return promise.futureResult
            }
        )
        let lookup = try #require(try await lookups.wait("the lookup") { !$0.isEmpty }.first)
        let began = NIODeadline.now()
        try await agent.stop()
        #expect(NIODeadline.now() - began < .seconds(5))
        lookup.fail(CancellationError())
    }

    @Test("An address that is resolved during the shutdown is not used")
    func stopsBeforeDial() async throws {
        let gateway = try await TestGateway()
        let port = gateway.port
        let running = Observed<RunningAgent?>(nil)
        let agent = try RunningAgent(
            gatewayPort: port,
            originPort: 1,
            resolve: { _, loop in
                let promise = loop.makePromise(of: [SocketAddress].self)
                // Like a lookup that completes just after SIGTERM.
                Task {
                    try await running.wait("the agent") { $0 != nil }?.agent.shutdown()
                    promise.completeWith(Result { [try SocketAddress(ipAddress: "127.0.0.1", port: port)] })
                }
                return promise.futureResult
            }
        )
        running.update { $0 = agent }
        try await agent.stop()
        #expect(gateway.hellos.value.isEmpty)
        running.update { $0 = nil }
        await gateway.stop()
    }

    @Test("A WELCOME during the shutdown makes no tunnel live")
    func stopsBeforeWelcome() async throws {
        let running = Observed<RunningAgent?>(nil)
        let gateway = try await TestGateway { hello in
            running.value?.agent.shutdown()
            return TestGateway.welcome(hello)
        }
        let origin = try await TestOrigin.simple()
        // The lookup waits until the gateway knows the agent.
        let agent = try RunningAgent(
            gatewayPort: gateway.port,
            originPort: origin.port,
            resolve: { target, loop in
                let promise = loop.makePromise(of: Void.self)
                promise.completeWithTask { try await running.wait("the agent") { $0 != nil } }
                return promise.futureResult.flatMap { AddressResolver.resolve(target, on: loop) }
            }
        )
        running.update { $0 = agent }
        try await gateway.hellos.wait("HELLO") { !$0.isEmpty }
        try await agent.stop()
        try await gateway.sessions.wait("no session") { $0.isEmpty }
        #expect(gateway.hellos.value.count == 1 && gateway.goaways.value.isEmpty)
        #expect(!agent.lines.value.contains { $0.text.hasPrefix("attached") })
        running.update { $0 = nil }
        await gateway.stop()
        await origin.stop()
    }

    @Test("The agent attaches to two gateways and serves both")
    func twoGateways() async throws {
        let other = try await TestGateway()
        let port = other.port
        try await Rig.with(
            try await TestOrigin.simple(),
            change: { $0.gateways.append(HostPort(host: "localhost", port: port)) }
        ) { rig in
            try await eventually("two tunnels") { rig.agent.agent.readyTunnels == 2 }
            try await expect { try await rig.get().isComplete }
            try await expect { try await other.call(try await rig.head()).over().isComplete }
        }
        await other.stop()
    }

    @Test("The ops port is ready with a live tunnel, and serves metrics")
    func ops() async throws {
        let origin = try await TestOrigin.simple()
        try await Rig.with(
            origin,
            change: {
                $0.opsListen = ListenAddress(host: "127.0.0.1", port: 0)
                $0.opsListenIsExplicit = true
            }
        ) { rig in
            try await expect { try await rig.get().isComplete }
            try await eventually("the ops port") { rig.agent.agent.opsListenPort != nil }
            let port = try #require(rig.agent.agent.opsListenPort)
            try await expect { try await httpGet(port, "/readyz").hasPrefix("HTTP/1.1 200") }
            let metrics = try await httpGet(port, "/metrics")
            #expect(metrics.contains("hopagent_ready_tunnels 1"))
            #expect(metrics.contains(#"hopagent_origin_requests_total{service="web",code="200"} 1"#))
        }
    }
}
