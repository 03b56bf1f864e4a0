import DTLS
import NIOCore
import Testing

@Suite("Cookies")
struct CookieTests {
    private let secret = DTLSCookieSecret(rotation: .seconds(60))
    private let peer: [UInt8] = [2, 0, 0x12, 0x34, 10, 0, 0, 1]

    private func listener() throws -> DTLSListener {
        DTLSListener(context: try .testServer(), secret: secret)
    }

    private func client() throws -> DTLSSession {
        try DTLSSession(client: .testClient(), serverName: "localhost", mtu: 1200, now: start)
    }

    /// Returns a hello that carries a cookie of `listener`.
    private func helloWithCookie(_ listener: DTLSListener, _ client: DTLSSession, now: NIODeadline) throws -> [UInt8] {
        let hello = try #require(client.transmitAll().first)
        guard case .reply = listener.handle(hello, peer: peer, now: now) else {
            Issue.record("no reply")
            return []
        }
        let reply = listener.transmitAll()
        #expect(reply.count == 1)
        #expect(reply[0].count < hello.count)
        #expect(reply[0].count == 44)
        client.handle(reply[0], now: now)
        return try #require(client.transmitAll().first)
    }

    private func isSession(_ answer: DTLSListener.Answer) -> Bool {
        if case .session(let session) = answer { return session.state == .handshaking }
        return false
    }

    private func isReply(_ answer: DTLSListener.Answer) -> Bool {
        if case .reply = answer { return true }
        return false
    }

    @Test("A hello gets a cookie; the hello with it gets a session")
    func accepted() throws {
        let listener = try listener()
        let hello = try helloWithCookie(listener, client(), now: start)
        #expect(isSession(listener.handle(hello, peer: peer, now: start)))
        // The next spare object has an empty queue.
        #expect(listener.transmitAll().isEmpty)
    }

    @Test("A peer with a valid cookie is asked for once, and gets no session and no answer if it is not admitted")
    func notAdmitted() throws {
        let listener = try listener()
        let hello = try helloWithCookie(listener, client(), now: start)
        var asked = 0
        let answer = hello.withUnsafeBytes { hello in
            peer.withUnsafeBytes { peer in
                listener.handle(datagram: hello, peer: peer, now: start) {
                    asked += 1
                    return false
                }
            }
        }
        guard case .drop(.notAdmitted) = answer else {
            Issue.record("\(answer)")
            return
        }
        #expect(asked == 1 && listener.transmitAll().isEmpty)
        #expect(isSession(listener.handle(hello, peer: peer, now: start)))
    }

    @Test("Any listener of the process accepts the cookie of another")
    func stateless() throws {
        let hello = try helloWithCookie(listener(), client(), now: start)
        #expect(isSession(try listener().handle(hello, peer: peer, now: start)))
    }

    @Test("The cookie of another address, port or process is treated as absent")
    func foreign() throws {
        let listener = try listener()
        let hello = try helloWithCookie(listener, client(), now: start)
        var other = peer
        other[3] = 0x35
        #expect(isReply(listener.handle(hello, peer: other, now: start)))
        #expect(listener.transmitAll().count == 1)
        let stranger = DTLSListener(context: try .testServer(), secret: DTLSCookieSecret())
        #expect(isReply(stranger.handle(hello, peer: peer, now: start)))
    }

    @Test("A cookie outlives one rotation of the secret, not two")
    func rotation() throws {
        let listener = try listener()
        let hello = try helloWithCookie(listener, client(), now: start)
        #expect(isSession(listener.handle(hello, peer: peer, now: start + .seconds(59))))
        #expect(isSession(listener.handle(hello, peer: peer, now: start + .seconds(61))))
        #expect(isReply(listener.handle(hello, peer: peer, now: start + .seconds(122))))
    }

    @Test("An old cookie is not accepted after a long silence")
    func longPause() throws {
        let listener = try listener()
        let hello = try helloWithCookie(listener, client(), now: start)
        #expect(isReply(listener.handle(hello, peer: peer, now: start + .hours(1))))
    }

    @Test("A cookie with one bit changed is treated as absent")
    func altered() throws {
        let listener = try listener()
        var hello = try helloWithCookie(listener, client(), now: start)
        // Record 13, handshake 12, version 2, random 32, empty session id 1, cookie length 1.
        #expect(hello[60] == 16)
        hello[61] ^= 1
        #expect(isReply(listener.handle(hello, peer: peer, now: start)))
    }

    @Test("Ten thousand hellos leave no state, and a real one is served in between")
    func flood() throws {
        let listener = try listener()
        let hello = try #require(try client().transmitAll().first)
        for index in 0..<10_000 {
            let address = peer + [UInt8(truncatingIfNeeded: index), UInt8(truncatingIfNeeded: index >> 8)]
            guard isReply(listener.handle(hello, peer: address, now: start)) else {
                Issue.record("hello \(index) got no reply")
                return
            }
            // Half of the replies are never polled.
            if index % 2 == 0 { #expect(listener.transmitAll().count == 1) }
        }
        let real = try helloWithCookie(listener, client(), now: start)
        #expect(isSession(listener.handle(real, peer: peer, now: start)))
    }

    @Test("A datagram without a whole hello gets no answer")
    func noHello() throws {
        let listener = try listener()
        let hello = try #require(try client().transmitAll().first)
        for count in 0..<hello.count {
            guard case .drop = listener.handle(Array(hello.prefix(count)), peer: peer, now: start) else {
                Issue.record("\(count) bytes were answered")
                return
            }
            #expect(listener.transmitAll().isEmpty)
        }
    }
}
