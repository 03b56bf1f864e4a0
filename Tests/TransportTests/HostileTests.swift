import DTLS
import Glibc
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing
import Transport
import Tunnel

@Suite("Unsolicited datagrams from the network", .serialized)
struct HostileTests {
    /// Returns a protected application record of an unknown session.
    private static func strayRecord(count: Int = 40) -> [UInt8] {
        [23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, UInt8(count >> 8), UInt8(count & 255)]
            + [UInt8](repeating: 0xA5, count: count)
    }

    @Test("A record of an unknown session is answered by one alert of 15 bytes per second")
    func unknownSession() async throws {
        let fixture = try await Fixture(loops: 1)
        let peer = try RawPeer(to: fixture.listener.localAddress)
        for _ in 0..<50 { peer.send(Self.strayRecord()) }
        #expect(peer.run { !$0.others.isEmpty })
        let counters = fixture.listener.counters[0]
        try await eventually("all read") { counters.droppedUnknown.current == 50 }
        #expect(counters.alertsSent.current == 1)
        #expect(
            peer.others.count == 1 && peer.others[0].count == DTLSUnknownSessionAlert.count && peer.others[0][0] == 21
        )
        #expect(
            peer.run(limit: .seconds(3)) { peer in
                peer.send(Self.strayRecord())
                return peer.others.count == 2
            }
        )
        try await fixture.close()
    }

    @Test("Alerts to all addresses together are limited, and two to one address are a second apart")
    func alertLimits() throws {
        var limiter = AlertLimiter()
        let start = NIODeadline.now()
        let address = { (port: Int) in try #require(UDPAddress(SocketAddress(ipAddress: "10.0.0.1", port: port))) }
        let first = limiter.allows(try address(1), now: start)
        let again = limiter.allows(try address(1), now: start + .milliseconds(999))
        let later = limiter.allows(try address(1), now: start + .milliseconds(1_001))
        #expect(first && !again && later)
        var allowed = 0
        for port in 1...10_000 where limiter.allows(try address(port), now: start + .seconds(10)) { allowed += 1 }
        #expect(allowed == AlertLimiter.perSecond)
    }

    private static func address(_ host: String, _ port: Int = 1) throws -> UDPAddress {
        try #require(UDPAddress(SocketAddress(ipAddress: host, port: port)))
    }

    /// Returns the ticket of an admitted session, whose number is added to `evicted` when it loses its place.
    private static func admit(
        _ host: String,
        to sessions: HalfOpenSessions,
        at now: NIODeadline,
        number: Int = 0,
        _ evicted: Observed<[Int]>
    ) throws -> HalfOpenSessions.Ticket? {
        guard case .admitted(let ticket, _) = sessions.admit(try address(host), now: now) else { return nil }
        sessions.prepare(ticket) { evicted.update { $0.append(number) } }
        return ticket
    }

    @Test("Half-open sessions are limited by address, and released places are usable again")
    func halfOpenLimits() throws {
        let sessions = HalfOpenSessions(total: 20, perAddress: 16)
        let (start, evicted) = (NIODeadline.now(), Observed<[Int]>([]))
        let tickets = try (1...16).map { _ in try Self.admit("10.0.0.1", to: sessions, at: start, evicted) }
        #expect(tickets.allSatisfy { $0 != nil })
        #expect(sessions.admit(try Self.address("10.0.0.1"), now: start) == .addressLimitReached)
        #expect(sessions.admit(try Self.address("::ffff:10.0.0.1"), now: start) == .addressLimitReached)
        for _ in 0..<4 { #expect(try Self.admit("10.0.0.2", to: sessions, at: start, evicted) != nil) }
        #expect(sessions.admit(try Self.address("10.0.0.3"), now: start) == .totalLimitReached, "all are too young")
        for _ in 0..<2 { sessions.release(try #require(tickets[0])) }
        #expect(sessions.current == 19)
        #expect(try Self.admit("10.0.0.1", to: sessions, at: start, evicted) != nil)
        #expect(evicted.value.isEmpty)
    }

    @Test("When all places are taken, the network with most of them loses its oldest session, none younger than 1 s")
    func eviction() throws {
        let sessions = HalfOpenSessions(total: 12, perAddress: 16)
        let (start, evicted) = (NIODeadline.now(), Observed<[Int]>([]))
        // One site with a session in each /64, one with two in a /64, and single addresses.
        let hosts =
            ["10.0.0.1", "2001:db8:9::1", "2001:db8:9::2"] + (1...6).map { "2001:db8:1:\($0)::1" }
            + ["10.0.0.2", "10.0.0.2", "10.0.0.3"]
        for (number, host) in hosts.enumerated() {
            let now = start + .milliseconds(Int64(number))
            #expect(try Self.admit(host, to: sessions, at: now, number: number, evicted) != nil)
        }
        let newcomer = { (host: String, time: TimeAmount) in
            try Self.admit(host, to: sessions, at: start + time, number: 99, evicted) != nil
        }
        #expect(try !newcomer("10.9.9.1", .milliseconds(900)))
        // Only the first four are old enough, and of them the site with six has one.
        #expect(try newcomer("10.9.9.1", .milliseconds(1_003)))
        #expect(evicted.value == [3])
        for number in 2...5 { #expect(try newcomer("10.9.9.\(number)", .seconds(2))) }
        #expect(evicted.value == [3, 4, 5, 6, 1], "of two equal networks the one with the older session")
        #expect(sessions.current == 12)
    }

    @Test("One address gets 16 half-open sessions, others are still admitted, and all of them time out")
    func halfOpenFlood() async throws {
        var configuration = TunnelListenerConfiguration()
        configuration.session.handshakeTimeout = .seconds(2)
        configuration.session.authenticationTimeout = .milliseconds(1_500)
        let fixture = try await Fixture(loops: 1, configuration: configuration, authenticates: false)
        var peers: [RawPeer] = []
        var established = 0
        for _ in 0..<20 {
            let peer = try RawPeer(to: fixture.listener.localAddress)
            try peer.restart()
            // The 17th and later hellos with a cookie get no answer.
            if peer.run(limit: .milliseconds(established < 16 ? 1_000 : 30), until: { $0.isEstablished }) {
                established += 1
            }
            peers.append(peer)
        }
        #expect(established == 16)
        #expect(fixture.listener.halfOpen == 16)
        #expect(fixture.listener.counters[0].droppedHalfOpenAddress.current >= 4)
        try await eventually("they are shown out", within: .seconds(6)) { fixture.listener.halfOpen == 0 }
        let late = try RawPeer(to: fixture.listener.localAddress)
        try late.restart()
        #expect(late.run { $0.isEstablished })
        _ = peers.count
        try await fixture.close()
    }

    @Test("One address gets a limited number of authenticated sessions; when one ends another is admitted")
    func sessionsPerAddress() async throws {
        var configuration = TunnelListenerConfiguration()
        configuration.sessionsPerAddress = 2
        let fixture = try await Fixture(loops: 1, configuration: configuration)
        let counters = fixture.listener.counters[0]
        let first = try await fixture.dial()
        _ = try await fixture.dial()
        try await eventually("both are in", within: .seconds(6)) { counters.sessionsAuthenticated.current == 2 }
        _ = try await fixture.dial()
        try await eventually("the third is refused", within: .seconds(6)) { counters.sessionsRefused.current == 1 }
        #expect(counters.sessionsAuthenticated.current == 2)
        first.close(.noError, reason: "done")
        try await eventually("its place is free", within: .seconds(6)) { counters.sessions.current == 1 }
        _ = try await fixture.dial()
        try await eventually("another is in", within: .seconds(6)) { counters.sessionsAuthenticated.current == 3 }
        try await fixture.close()
    }

    @Test("A full house ends its oldest half-open session for a newcomer, after a second")
    func fullHouse() async throws {
        var configuration = TunnelListenerConfiguration()
        configuration.halfOpenTotal = 3
        let fixture = try await Fixture(loops: 1, configuration: configuration, authenticates: false)
        var peers: [RawPeer] = []
        for _ in 0..<4 {
            let peer = try RawPeer(to: fixture.listener.localAddress)
            try peer.restart()
            #expect(peer.run { $0.isEstablished })
            peers.append(peer)
        }
        #expect(fixture.listener.halfOpen == 3)
        #expect(fixture.listener.counters[0].halfOpenEvicted.current == 1)
        let log = try await fixture.listenerLog.wait("one has ended") { !$0.closed.isEmpty }
        guard case .evicted = log.closed[0] else {
            Issue.record("\(log.closed)")
            return
        }
        _ = peers.count
        try await fixture.close()
    }

    @Test("A new handshake from a session's address replaces the session only when its peer has authenticated itself")
    func replacement() async throws {
        let fixture = try await Fixture(loops: 1, authenticates: false)
        let peer = try RawPeer(to: fixture.listener.localAddress)
        try peer.restart()
        #expect(peer.run { $0.isEstablished })
        let first = try #require(try await fixture.accepted.wait("first") { $0.count == 1 }.first)
        first.authenticated()
        try await eventually("authenticated") { fixture.listener.counters[0].sessionsAuthenticated.current == 1 }
        try peer.restart()
        #expect(peer.run { $0.isEstablished })
        let second = try #require(try await fixture.accepted.wait("second") { $0.count == 2 }.last)
        #expect(fixture.listenerLog.value.closed.isEmpty, "the first one is untouched")
        #expect(fixture.listener.counters[0].sessions.current == 2)
        second.authenticated()
        let log = try await fixture.listenerLog.wait("replaced") { !$0.closed.isEmpty }
        guard case .replaced = log.closed[0] else {
            Issue.record("\(log.closed)")
            return
        }
        #expect(fixture.listener.counters[0].sessions.current == 1)
        try await fixture.close()
    }

    @Test("A flood of garbage, strays and hellos harms no session")
    func flood() async throws {
        let fixture = try await Fixture(loops: 2)
        let (session, _) = try await fixture.connect(on: fixture.loops[1])
        let flooder = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let sent = Observed(0)
        let address = fixture.listener.localAddress
        let sockets = try (0..<8).map { _ in try UDPSocket.connected(to: address) }
        let flood = UncheckedSendable((sockets: sockets, hellos: try (0..<4).map { _ in try Self.hello() }))
        let random = Mutex(SeededGenerator(seed: 3))
        // 20,000 per second, as long as the sessions are busy.
        let task = flooder.next().scheduleRepeatedTask(initialDelay: .zero, delay: .milliseconds(10)) { _ in
            random.withLock { random in
                for _ in 0..<200 {
                    let socket = flood.value.sockets[Int(random.next() % 8)]
                    let bytes = Self.nonsense(&random, hellos: flood.value.hellos)
                    _ = Glibc.send(socket.descriptor, bytes, bytes.count, 0)
                }
            }
            sent.update { $0 += 200 }
        }
        for _ in 0..<4 {
            let (_, echo) = try await fixture.stream(session, on: fixture.loops[0], .send(3_000_000))
            let result = try await echo.wait("the echo", within: .seconds(60)) { $0.isOver }
            #expect(result.bytes == 3_000_000 && result.finished == 1)
        }
        try await sent.wait("a flood") { $0 >= 10_000 }
        task.cancel()
        let counters = fixture.listener.counters[0]
        #expect(counters.droppedInvalid.current > 0 && counters.droppedUnknown.current > 0)
        #expect(counters.cookiesSent.current > 0)
        #expect(counters.alertsSent.current * 20 < counters.droppedUnknown.current, "most get no answer")
        #expect(fixture.listener.halfOpen == 0, "no state for a hello")
        let (again, _) = try await fixture.connect(on: fixture.loops[1])
        #expect(again.isResponsive)
        try await flooder.shutdownGracefully()
        try await fixture.close()
    }

    /// Returns noise, records of no session, hellos without a cookie, and similar data.
    private static func nonsense(_ random: inout SeededGenerator, hellos: [[UInt8]]) -> [UInt8] {
        switch random.next() % 4 {
        case 0: return (0..<Int(random.next() % 1_200)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        case 1: return Self.strayRecord(count: 20 + Int(random.next() % 200))
        case 2: return hellos[Int(random.next() % 4)]
        default:
            var bytes = Self.strayRecord()
            bytes[0] = UInt8(truncatingIfNeeded: random.next())
            bytes[4] = UInt8(random.next() % 2)
            return bytes
        }
    }

    /// Returns a ClientHello without a cookie.
    private static func hello() throws -> [UInt8] {
        let context = try DTLSContext.client(
            DTLSClientConfiguration(trust: .caPEM(TestAuthority.shared.pem), alpn: ["hop/1"])
        )
        let session = try DTLSSession(client: context, serverName: "localhost", mtu: 1200, now: .now())
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4_096, alignment: 8)
        defer { buffer.deallocate() }
        let count = try #require(session.pollTransmit(into: buffer))
        return Array(buffer[..<count])
    }

    @Test("Datagrams from port 0 are dropped", .enabled(if: RawUDP.isAllowed))
    func portZero() async throws {
        let fixture = try await Fixture(loops: 1)
        let (session, _) = try await fixture.connect()
        let port = UInt16(try #require(fixture.listener.localAddress.port))
        for _ in 0..<20 { RawUDP.send(from: 0, to: port, Self.strayRecord()) }
        try await eventually("counted") { fixture.listener.counters[0].droppedPortZero.current == 20 }
        #expect(fixture.listener.counters[0].alertsSent.current == 0)
        let (_, echo) = try await fixture.stream(session, on: fixture.loops[0], .send(100_000))
        let result = try await echo.wait("the echo") { $0.isOver }
        #expect(result.finished == 1)
        try await fixture.close()
    }
}

/// Sends datagrams with an arbitrary source port; needs the right to open raw sockets.
enum RawUDP {
    static var isAllowed: Bool {
        let descriptor = open()
        if descriptor >= 0 { _ = Glibc.close(descriptor) }
        return descriptor >= 0
    }

    private static func open() -> CInt {
        socket(AF_INET, CInt(SOCK_RAW.rawValue), 17)
    }

    static func send(from source: UInt16, to destination: UInt16, _ payload: [UInt8]) {
        let descriptor = open()
        defer { _ = Glibc.close(descriptor) }
        let length = UInt16(8 + payload.count)
        var datagram: [UInt8] = []
        for value in [source, destination, length, 0] {
            datagram.append(UInt8(value >> 8))
            datagram.append(UInt8(value & 255))
        }
        datagram += payload
        guard let address = try? SocketAddress(ipAddress: "127.0.0.1", port: 0) else { return }
        _ = address.withSockAddr { sendto(descriptor, datagram, datagram.count, 0, $0, socklen_t($1)) }
    }
}
