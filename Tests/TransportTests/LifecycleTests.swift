import DTLS
import Glibc
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing
import Transport
import Tunnel

@Suite("How sessions begin and end", .serialized)
struct LifecycleTests {
    /// Weak references to objects.
    private final class Remains: @unchecked Sendable {
        private struct Weak { weak var object: AnyObject? }
        private let objects: Mutex<[Weak]> = Mutex([])
        func add(_ object: AnyObject) {
            let weak = UncheckedSendable(object)
            objects.withLock { $0.append(Weak(object: weak.value)) }
        }
        var count: Int { objects.withLock { $0.count { $0.object != nil } } }
    }

    @Test("The objects of a closed session are freed, also streams of other loops")
    func freed() async throws {
        let remains = Remains()
        let fixture = try await Fixture(loops: 2) { session, stream in
            remains.add(session)
            remains.add(stream)
            stream.handler = StreamRecorder(stream: stream, behaviour: .echo)
        }
        let context = try DTLSContext.client(
            DTLSClientConfiguration(trust: .caPEM(TestAuthority.shared.pem), alpn: ["hop/1"])
        )
        let address = fixture.listener.localAddress
        for index in 0..<4 {
            let log = Observed(SessionLog())
            let echo = Observed(StreamLog())
            try await fixture.loops[1].submit {
                let handler = ScriptedSession(
                    log: log,
                    established: { session in
                        for loop in fixture.loops {
                            let recorder = StreamRecorder(behaviour: .send(300_000), log: echo)
                            let stream = session.openStream(handler: recorder, on: loop)
                            remains.add(stream)
                            let both = UncheckedSendable((recorder, stream))
                            loop.execute { both.value.0.begin(both.value.1) }
                        }
                    }
                )
                let session = try TunnelDialer.dial(
                    to: address,
                    serverName: "localhost",
                    context: context,
                    configuration: TunnelDialerConfiguration(),
                    on: fixture.loops[1],
                    handler: handler
                )
                remains.add(session)
                remains.add(session.sender)
                remains.add(handler)
                // Closes half of them in the middle.
                let patience = index % 2 == 0 ? 300_000 : 600_000
                let weak = UncheckedSendable({ [weak session] in session?.close(.noError, reason: "enough") })
                fixture.loops[1].scheduleRepeatedTask(initialDelay: .zero, delay: .milliseconds(1)) { task in
                    guard echo.value.bytes >= patience else { return }
                    task.cancel()
                    weak.value()
                }
            }.get()
            try await log.wait("closed") { !$0.closed.isEmpty }
        }
        try await fixture.listenerLog.wait("closed there") { $0.closed.count == 4 }
        fixture.accepted.update { $0.removeAll() }
        try await eventually("everything is freed") { remains.count == 0 }
        try await fixture.close()
    }

    @Test("Closing a session reports the reason to the peer and fails every stream on both sides")
    func close() async throws {
        let received = Observed(StreamLog())
        let fixture = try await Fixture(loops: 2) { _, stream in
            stream.handler = StreamRecorder(stream: stream, behaviour: .hold, log: received)
        }
        let log = Observed(SessionLog())
        let session = try await fixture.dial(on: fixture.loops[1], log: log)
        try await log.wait("established") { $0.established == 1 }
        let (_, local) = try await fixture.stream(session, on: fixture.loops[1], .hold)
        let (crossing, remote) = try await fixture.stream(session, on: fixture.loops[0], .hold)
        try await fixture.loops[0].submit { crossing.write(ByteBuffer(string: "x")) }.get()
        try await received.wait("a byte") { $0.bytes == 1 }
        session.close(ApplicationErrorCode(rawValue: 37), reason: "superseded")
        let closed = try await log.wait("closed here") { !$0.closed.isEmpty }
        guard case .local(ApplicationErrorCode(rawValue: 37), "superseded") = closed.closed[0] else {
            Issue.record("\(closed.closed)")
            return
        }
        let peer = try await fixture.listenerLog.wait("closed there") { !$0.closed.isEmpty }
        guard case .peer(ApplicationErrorCode(rawValue: 37), "superseded") = peer.closed[0] else {
            Issue.record("\(peer.closed)")
            return
        }
        try await local.wait("stream failed") { !$0.failures.isEmpty }
        try await remote.wait("stream failed") { !$0.failures.isEmpty }
        try await received.wait("stream failed") { !$0.failures.isEmpty }
        #expect(local.value.failures == [StreamFailure(reason: .sessionEnded, anyByteSent: false)])
        #expect(remote.value.failures == [StreamFailure(reason: .sessionEnded, anyByteSent: true)])
        // Opening after the end is refused.
        let (_, late) = try await fixture.stream(session, on: fixture.loops[0], .send(10))
        let result = try await late.wait("refused") { $0.isOver }
        #expect(result.failures == [StreamFailure(reason: .refused, anyByteSent: false)])
        try await eventually("the address is forgotten") { fixture.listener.counters[0].sessions.current == 0 }
        #expect(log.value.closed.count == 1 && fixture.listenerLog.value.closed.count == 1)
        try await fixture.close()
    }

    @Test(
        "A listener on all addresses answers from the one that was asked, and IPv4 peers of an IPv6 socket count as IPv4",
        arguments: [("0.0.0.0", "127.0.0.2"), ("::", "127.0.0.2"), ("::", "::1")]
    )
    func manyAddresses(host: String, dialed: String) async throws {
        let fixture = try await Fixture(loops: 2, host: host)
        let port = try #require(fixture.listener.localAddress.port)
        let log = Observed(SessionLog())
        _ = try await fixture.dial(to: SocketAddress(ipAddress: dialed, port: port), log: log)
        try await log.wait("established") { $0.established == 1 }
        let accepted = try await fixture.accepted.wait("accepted") { !$0.isEmpty }
        #expect(accepted[0].remoteAddress.text.hasPrefix(dialed == "::1" ? "[::1]:" : "127.0.0.1:"))
        try await fixture.close()
    }

    @Test("A session answers from the address of the last authenticated datagram; a forged one changes nothing")
    func movedAddress() async throws {
        let fixture = try await Fixture(loops: 1, host: "0.0.0.0")
        let port = try #require(fixture.listener.localAddress.port)
        let address = { (host: String) in try SocketAddress(ipAddress: host, port: port) }
        let peer = try RawPeer(to: address("127.0.0.2"))
        try peer.restart()
        #expect(peer.run { $0.isEstablished })
        let session = try #require(try await fixture.accepted.wait("accepted") { !$0.isEmpty }.first)
        let datagrams = { fixture.listener.counters[0].datagramsIn.current }
        // A record with this session's header that DTLS cannot authenticate.
        peer.connect(to: try address("127.0.0.3"))
        let before = datagrams()
        peer.send([23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 99, 0, 40] + [UInt8](repeating: 1, count: 40))
        try await eventually("read") { datagrams() > before }
        peer.connect(to: try address("127.0.0.2"))
        var count = peer.authentic
        session.ping()
        #expect(peer.run { $0.authentic > count })
        peer.connect(to: try address("127.0.0.4"))
        count = peer.authentic
        peer.ping()
        #expect(peer.run { $0.authentic > count })
        try await fixture.close()
    }

    @Test("A certificate of an unknown authority ends the attempt on both sides")
    func wrongCertificate() async throws {
        let fixture = try await Fixture(loops: 2)
        let log = Observed(SessionLog())
        _ = try await fixture.dial(trust: .caPEM(TestAuthority.stranger.pem), log: log)
        let closed = try await log.wait("closed") { !$0.closed.isEmpty }
        guard case .handshakeFailed(let error) = closed.closed[0], error?.code == .unknownAuthority else {
            Issue.record("\(closed.closed)")
            return
        }
        #expect(closed.established == 0)
        let there = try await fixture.failedHandshakes.wait("the listener's report") { !$0.isEmpty }
        guard case .handshakeFailed(let alert) = there[0], case .peerAlert = alert?.code else {
            Issue.record("\(there)")
            return
        }
        #expect(fixture.listenerLog.value.established == 0)
        try await eventually("half-open left") { fixture.listener.halfOpen == 0 }
        try await fixture.close()
    }

    @Test("A certificate for another name ends the attempt")
    func wrongName() async throws {
        let fixture = try await Fixture(loops: 2)
        let log = Observed(SessionLog())
        _ = try await fixture.dial(serverName: "elsewhere.test", log: log)
        let closed = try await log.wait("closed") { !$0.closed.isEmpty }
        guard case .handshakeFailed(let error) = closed.closed[0], error?.code == .nameMismatch else {
            Issue.record("\(closed.closed)")
            return
        }
        try await fixture.close()
    }

    @Test("A foreign application protocol is refused")
    func wrongProtocol() async throws {
        let fixture = try await Fixture(loops: 2)
        let log = Observed(SessionLog())
        _ = try await fixture.dial(alpn: ["hop-mesh/1"], log: log)
        let closed = try await log.wait("closed") { !$0.closed.isEmpty }
        guard case .handshakeFailed = closed.closed[0] else {
            Issue.record("\(closed.closed)")
            return
        }
        try await fixture.close()
    }

    @Test("An agreed protocol that the configuration does not list ends the session")
    func unwantedProtocol() async throws {
        let fixture = try await Fixture(loops: 2, alpn: ["hop-mesh/1"])
        let log = Observed(SessionLog())
        _ = try await fixture.dial(alpn: ["hop-mesh/1"], log: log)
        let closed = try await log.wait("closed") { !$0.closed.isEmpty }
        guard case .wrongProtocol("hop-mesh/1") = closed.closed[0] else {
            Issue.record("\(closed.closed)")
            return
        }
        try await fixture.close()
    }

    @Test("A closed port ends the attempt long before the handshake's deadline")
    func nobodyThere() async throws {
        let fixture = try await Fixture(loops: 2)
        let address = try UDPSocket.bound(to: SocketAddress(ipAddress: "127.0.0.1", port: 0))
            .localAddress
        let log = Observed(SessionLog())
        _ = try await fixture.dial(to: address, log: log)
        let closed = try await log.wait("refused", within: .seconds(3)) { !$0.closed.isEmpty }
        guard case .refused = closed.closed.first else {
            Issue.record("\(closed.closed)")
            return
        }
        try await fixture.close()
    }

    @Test("A silent peer ends the attempt at the handshake's deadline")
    func silence() async throws {
        let fixture = try await Fixture(loops: 2)
        let silent = try UDPSocket.bound(to: SocketAddress(ipAddress: "127.0.0.1", port: 0))
        var configuration = TunnelDialerConfiguration()
        configuration.session.handshakeTimeout = .milliseconds(300)
        let log = Observed(SessionLog())
        _ = try await fixture.dial(to: silent.localAddress, configuration: configuration, log: log)
        let closed = try await log.wait("timeout", within: .seconds(3)) { !$0.closed.isEmpty }
        guard case .handshakeTimeout = closed.closed.first else {
            Issue.record("\(closed.closed)")
            return
        }
        try await fixture.close()
    }

    @Test("An attempt can be cancelled")
    func givenUp() async throws {
        let fixture = try await Fixture(loops: 2)
        let silent = try UDPSocket.bound(to: SocketAddress(ipAddress: "127.0.0.1", port: 0))
        let log = Observed(SessionLog())
        let session = try await fixture.dial(to: silent.localAddress, log: log)
        session.close(.noError, reason: "changed my mind")
        let closed = try await log.wait("closed", within: .seconds(3)) { !$0.closed.isEmpty }
        guard case .local(.noError, _) = closed.closed.first else {
            Issue.record("\(closed.closed)")
            return
        }
        try await fixture.close()
    }

    @Test("A peer that does not authenticate in time is closed with AUTH_FAILED")
    func notAuthenticated() async throws {
        var configuration = TunnelListenerConfiguration()
        configuration.session.authenticationTimeout = .milliseconds(100)
        let fixture = try await Fixture(loops: 2, configuration: configuration, authenticates: false)
        let log = Observed(SessionLog())
        _ = try await fixture.dial(log: log)
        let closed = try await log.wait("shown out") { !$0.closed.isEmpty }
        guard case .peer(.authFailed, _) = closed.closed[0] else {
            Issue.record("\(closed.closed)")
            return
        }
        let there = try await fixture.listenerLog.wait("closed there") { !$0.closed.isEmpty }
        guard case .notAuthenticated = there.closed[0] else {
            Issue.record("\(there.closed)")
            return
        }
        try await eventually("half-open left") { fixture.listener.halfOpen == 0 }
        try await fixture.close()
    }

    @Test("A gateway that stops closes every session with CONNECTION_CLOSE")
    func listenerCloses() async throws {
        let fixture = try await Fixture(loops: 2)
        let log = Observed(SessionLog())
        _ = try await fixture.dial(log: log)
        try await log.wait("established") { $0.established == 1 }
        try await fixture.accepted.wait("accepted") { !$0.isEmpty }
        await fixture.listener.close()
        let closed = try await log.wait("the close") { !$0.closed.isEmpty }
        guard case .peer(.noError, _) = closed.closed[0] else {
            Issue.record("\(closed.closed)")
            return
        }
        guard case .listenerClosed = fixture.listenerLog.value.closed.first else {
            Issue.record("\(fixture.listenerLog.value.closed)")
            return
        }
        // The port is free again.
        _ = try UDPSocket.bound(to: fixture.listener.localAddress)
        try await fixture.close()
    }

    @Test("A killed gateway is detected through refusals within two seconds")
    func gatewayKilled() async throws {
        let fixture = try await Fixture(loops: 2)
        let log = Observed(SessionLog())
        let session = try await fixture.dial(on: fixture.loops[1], log: log)
        try await log.wait("established") { $0.established == 1 }
        let accepted = try #require(try await fixture.accepted.wait("accepted") { !$0.isEmpty }.first)
        // The state after a killed process: its socket neither receives nor answers.
        try await accepted.loop.submit { accepted.sender.socket.release() }.get()
        try await accepted.loop.flatSubmit { accepted.channel?.close() ?? accepted.loop.makeSucceededVoidFuture() }
            .get()
        let began = NIODeadline.now()
        session.ping()
        let report = try await log.wait("suspected", within: .seconds(3)) { $0.suspected > 0 }
        #expect(NIODeadline.now() - began < .seconds(2))
        #expect(report.closed.isEmpty, "the owner decides")
        try await fixture.close()
    }

    @Test("A gateway that has lost a session answers with an alert, and the owner of the session is told")
    func forgotten() async throws {
        let first = try await Fixture(loops: 2)
        let log = Observed(SessionLog())
        let session = try await first.dial(on: first.loops[1], log: log)
        try await log.wait("established") { $0.established == 1 }
        let accepted = try #require(try await first.accepted.wait("accepted") { !$0.isEmpty }.first)
        // A new process on the old port: the old one sends nothing when it dies.
        let address = first.listener.localAddress
        try await accepted.loop.submit { accepted.sender.injectedFailure = { _, _ in 101 } }.get()
        await first.listener.close()
        let context = try DTLSContext.server(
            DTLSServerConfiguration(
                certificateChainPEM: TestCertificate.localhost.chainBytes,
                privateKeyPEM: TestCertificate.localhost.keyBytes,
                alpn: ["hop/1"]
            )
        )
        let second = try await TunnelListener.bind(
            host: "127.0.0.1",
            port: try #require(address.port),
            loops: [first.loops[0]],
            configuration: TunnelListenerConfiguration(),
            context: { context },
            accept: { _ in ScriptedSession() }
        )
        session.ping()
        let suspected = try await log.wait("suspected", within: .seconds(3)) { $0.suspected > 0 }
        #expect(suspected.closed.isEmpty)
        #expect(second.counters[0].alertsSent.current >= 1)
        await second.close()
        try await first.close()
    }

    @Test("A forged alert does not end a living session")
    func falseHint() async throws {
        let fixture = try await Fixture(loops: 2)
        let log = Observed(SessionLog())
        let session = try await fixture.dial(on: fixture.loops[1], log: log)
        try await log.wait("established") { $0.established == 1 }
        let accepted = try #require(try await fixture.accepted.wait("accepted") { !$0.isEmpty }.first)
        try await accepted.loop.submit { Self.sendAlert(of: accepted) }.get()
        let (_, echo) = try await fixture.stream(session, on: fixture.loops[1], .send(500_000))
        try await echo.wait("alive") { $0.isOver }
        // Longer than the wait for an indication.
        let later = Observed(false)
        session.loop.scheduleTask(in: .milliseconds(700)) { later.update { $0 = true } }
        try await later.wait("a while") { $0 }
        #expect(log.value.closed.isEmpty && log.value.suspected == 0 && echo.value.finished == 1)
        try await fixture.close()
    }

    /// Sends an alert as if it came from the gateway: its socket, its port.
    private static func sendAlert(of session: TunnelSession) {
        withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) { alert in
            let count = DTLSUnknownSessionAlert.write(into: alert)
            _ = session.remoteAddress.withSockAddr { address, length in
                sendto(session.sender.socket.descriptor, alert.baseAddress, count, 0, address, socklen_t(length))
            }
        }
    }

    @Test("A forged alert while the gateway is silent for a moment ends nothing")
    func hintInSilence() async throws {
        let fixture = try await Fixture(loops: 2)
        let log = Observed(SessionLog())
        let session = try await fixture.dial(on: fixture.loops[1], log: log)
        try await log.wait("established") { $0.established == 1 }
        let accepted = try #require(try await fixture.accepted.wait("accepted") { !$0.isEmpty }.first)
        try await accepted.loop.submit {
            accepted.sender.injectedFailure = { _, _ in 0 }
            Self.sendAlert(of: accepted)
        }.get()
        try await log.wait("suspected") { $0.suspected == 1 }
        try await accepted.loop.submit { accepted.sender.injectedFailure = nil }.get()
        let (_, echo) = try await fixture.stream(session, on: fixture.loops[1], .send(500_000))
        let result = try await echo.wait("the echo") { $0.isOver }
        #expect(result.finished == 1 && log.value.closed.isEmpty)
        try await fixture.close()
    }

    @Test("One refusal and an alert end no attempt; the refusal of each flight does")
    func hintsWhileDialing() async throws {
        let fixture = try await Fixture(loops: 2)
        let silent = try UDPSocket.bound(to: SocketAddress(ipAddress: "127.0.0.1", port: 0))
        let log = Observed(SessionLog())
        let session = try await fixture.dial(to: silent.localAddress, log: log)
        try await session.loop.submit { session.peerMayBeGone(now: .now()) }.get()
        // Longer than the wait for an indication.
        let later = Observed(false)
        session.loop.scheduleTask(in: .milliseconds(700)) { later.update { $0 = true } }
        try await later.wait("a while") { $0 }
        #expect(log.value.closed.isEmpty)
        try await session.loop.submit { for _ in 0..<2 { session.peerMayBeGone(now: .now()) } }.get()
        let closed = try await log.wait("refused") { !$0.closed.isEmpty }
        guard case .refused = closed.closed.first else {
            Issue.record("\(closed.closed)")
            return
        }
        try await fixture.close()
    }

    @Test("NIO's channel is reopened after it closed, and the session continues")
    func reopened() async throws {
        let fixture = try await Fixture(loops: 2)
        let (session, accepted) = try await fixture.connect(on: fixture.loops[1])
        for side in [accepted, session] {
            try await side.loop.flatSubmit { side.channel?.close() ?? side.loop.makeSucceededVoidFuture() }.get()
            let (_, echo) = try await fixture.stream(session, on: fixture.loops[0], .send(500_000))
            let result = try await echo.wait("the echo") { $0.isOver }
            #expect(result.bytes == 500_000 && result.finished == 1)
        }
        #expect(fixture.listener.counters[0].channelsReopened.current == 1)
        try await fixture.close()
    }

    @Test("A socket that refuses to cut bursts still carries a stream", arguments: [5, 22])
    func withoutSegmentation(code: Int32) async throws {
        let counters = TransportCounters()
        let fixture = try await Fixture(loops: 2)
        let log = Observed(SessionLog())
        let session = try await fixture.dial(on: fixture.loops[1], counters: counters, log: log)
        try await log.wait("established") { $0.established == 1 }
        try await session.loop.submit {
            session.sender.injectedFailure = { segments, _ in segments > 1 ? code : nil }
        }.get()
        let (_, echo) = try await fixture.stream(session, on: fixture.loops[0], .send(2_000_000))
        let result = try await echo.wait("the echo") { $0.isOver }
        #expect(result.bytes == 2_000_000 && result.finished == 1)
        #expect(counters.burstsRefused.current == 1)
        #expect(counters.burstsOut.current == counters.datagramsOut.current, "one by one")
        try await fixture.close()
    }

    @Test("A socket that is repeatedly full delays a stream and loses nothing")
    func fullSocket() async throws {
        let counters = TransportCounters()
        let fixture = try await Fixture(loops: 2)
        let log = Observed(SessionLog())
        let session = try await fixture.dial(on: fixture.loops[1], counters: counters, log: log)
        try await log.wait("established") { $0.established == 1 }
        let calls = Mutex(0)
        try await session.loop.submit {
            session.sender.injectedFailure = { _, _ in
                calls.withLock { calls in
                    calls += 1
                    return calls % 3 == 0 ? 11 : nil
                }
            }
        }.get()
        let (_, echo) = try await fixture.stream(session, on: fixture.loops[0], .send(2_000_000))
        let result = try await echo.wait("the echo") { $0.isOver }
        #expect(result.bytes == 2_000_000 && result.finished == 1)
        #expect(counters.burstsBlocked.current > 10)
        let statistics = try await session.loop.submit { session.statistics }.get()
        #expect(statistics.packetsLost == 0)
        try await fixture.close()
    }
}
