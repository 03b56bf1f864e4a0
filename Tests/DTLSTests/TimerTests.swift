import DTLS
import NIOCore
import Testing

@Suite("Handshake timer")
struct TimerTests {
    @Test("Each timeout retransmits the flight once, at intervals doubling from 200 ms, until ten seconds have passed")
    func doubling() throws {
        let client = try DTLSSession(client: .testClient(), serverName: "localhost", mtu: 1200, now: start)
        #expect(client.transmitAll().count == 1)
        var waits: [Int64] = []
        var now = start
        while let deadline = client.pollTimeout() {
            waits.append((deadline - now).nanoseconds / 1_000_000)
            now = deadline
            client.handleTimeout(now: now)
            // Exactly one flight, and none by OpenSSL's own clock.
            #expect(client.transmitAll().count == (client.state == .handshaking ? 1 : 0))
            client.handleTimeout(now: now)
            #expect(client.transmitAll().isEmpty)
        }
        #expect(waits == [200, 400, 800, 1600, 3200, 3800])
        #expect(now - start == .seconds(10))
        #expect(client.state == .closed)
        #expect(client.failure?.code == .handshakeTimeout)
    }

    @Test("A timeout that comes early does nothing")
    func early() throws {
        let client = try DTLSSession(client: .testClient(), serverName: "localhost", mtu: 1200, now: start)
        _ = client.transmitAll()
        client.handleTimeout(now: start + .milliseconds(199))
        #expect(client.transmitAll().isEmpty)
        #expect(client.pollTimeout() == start + .milliseconds(200))
    }

    @Test("The server retransmits its flight too, and the interval starts again with each flight")
    func server() throws {
        let pair = try Pair()
        // Hello, cookie, hello; then the server's flight is lost.
        pair.deliverToServer(try #require(pair.client.transmitAll().first))
        pair.now = start + .milliseconds(50)
        pair.client.handle(try #require(pair.listener.transmitAll().first), now: pair.now)
        #expect(pair.client.pollTimeout() == start + .milliseconds(250))
        pair.deliverToServer(try #require(pair.client.transmitAll().first))
        let server = try #require(pair.server)
        let flight = server.transmitAll()
        #expect(!flight.isEmpty)
        #expect(server.pollTimeout() == start + .milliseconds(250))
        pair.now = start + .milliseconds(250)
        server.handleTimeout(now: pair.now)
        let again = server.transmitAll()
        // One message per datagram this time, and the same messages.
        #expect(messageTypes(again) == messageTypes(flight))
        #expect(server.pollTimeout() == start + .milliseconds(650))
        for datagram in again { pair.client.handle(datagram, now: pair.now) }
        pair.settle()
        #expect(server.state == .established)
        // The answer may belong to either transmission (Karn).
        #expect(server.handshakeRTT == nil)
    }

    @Test("A server whose last flight is lost sends it again when the client does")
    func lastFlight() throws {
        let pair = try Pair()
        var dropped = 0
        pair.alterServer = { datagram in
            guard pair.server?.state == .established, dropped < 2 else { return datagram }
            dropped += 1
            return []
        }
        pair.settle()
        #expect(pair.server?.state == .established)
        #expect(pair.client.state == .handshaking)
        for _ in 0..<3 where pair.client.state == .handshaking {
            pair.now = try #require(pair.client.pollTimeout())
            pair.client.handleTimeout(now: pair.now)
            pair.settle()
        }
        #expect(dropped == 2)
        #expect(pair.client.state == .established)
        #expect(pair.client.handshakeRTT == nil)
        #expect(try pair.exchange())
    }

    @Test("The timer follows its intervals, Karn's rule and the limit")
    func pure() {
        var timer = DTLSHandshakeTimer(now: start)
        #expect(timer.deadline == start + .seconds(10))
        timer.flightAnswered(now: start + .seconds(1))
        #expect(timer.roundTrip == nil)
        timer.flightSent(now: start)
        timer.flightAnswered(now: start + .milliseconds(70))
        #expect(timer.roundTrip == .milliseconds(70))
        timer.flightSent(now: start + .milliseconds(70))
        timer.flightRetransmitted(now: start + .milliseconds(270))
        #expect(timer.deadline == start + .milliseconds(670))
        timer.flightAnswered(now: start + .milliseconds(300))
        #expect(timer.roundTrip == nil)
        #expect(timer.deadline == start + .seconds(10))
        timer.flightSent(now: start + .milliseconds(9_900))
        #expect(timer.deadline == start + .seconds(10))
    }

    /// Returns the message types of the unencrypted handshake records in these datagrams.
    private func messageTypes(_ datagrams: [[UInt8]]) -> [UInt8] {
        var types: [UInt8] = []
        for datagram in datagrams {
            var at = 0
            while at + 13 < datagram.count {
                types.append(datagram[at + 13])
                at += 13 + (Int(datagram[at + 11]) << 8 | Int(datagram[at + 12]))
            }
        }
        return types
    }
}
