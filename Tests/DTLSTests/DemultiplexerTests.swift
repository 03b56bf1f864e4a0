import DTLS
import Testing

@Suite("Demultiplexing")
struct DemultiplexerTests {
    private static func random(_ byte: UInt8) -> DTLSClientRandom {
        [UInt8](repeating: byte, count: 32).withUnsafeBytes { DTLSClientRandom($0)! }
    }

    private let old = random(1)
    private let new = random(2)
    private let foreign = random(3)

    private func destination(
        _ kind: DTLSDatagramKind,
        established: DTLSClientRandom? = nil,
        pending: DTLSClientRandom? = nil,
        secured: Bool = false
    ) -> DTLSDemultiplexer.Destination {
        DTLSDemultiplexer.destination(
            of: kind,
            sessions: .init(established: established, pending: pending, isPendingSecured: secured)
        )
    }

    @Test("Of an unknown address only a hello and an encrypted record are not dropped")
    func unknown() {
        #expect(destination(.clientHello(random: new)) == .listener)
        #expect(destination(.protected(.applicationData)) == .unknownSession)
        #expect(destination(.protected(.alert)) == .unknownSession)
        #expect(destination(.protected(.handshake)) == .unknownSession)
        #expect(destination(.handshake) == .drop)
        #expect(destination(.epochZeroOther) == .drop)
        #expect(destination(.invalid) == .drop)
    }

    @Test("A hello goes to the session that began with it, any other hello to the listener")
    func hello() {
        #expect(destination(.clientHello(random: old), established: old) == .established)
        #expect(destination(.clientHello(random: new), established: old) == .listener)
        #expect(destination(.clientHello(random: new), established: old, pending: new) == .pending)
        #expect(destination(.clientHello(random: old), established: old, pending: new) == .established)
        #expect(destination(.clientHello(random: foreign), established: old, pending: new) == .listener)
        #expect(destination(.clientHello(random: new), pending: new) == .pending)
    }

    @Test("While a session is pending it gets handshake records, and the established session gets data")
    func pending() {
        for kind in [
            DTLSDatagramKind.handshake, .epochZeroOther, .protected(.handshake), .protected(.changeCipherSpec),
        ] {
            #expect(destination(kind, established: old) == .established)
            #expect(destination(kind, established: old, pending: new) == .pending)
            #expect(destination(kind, established: old, pending: new, secured: true) == .pending)
            #expect(destination(kind, pending: new) == .pending)
        }
        for kind in [DTLSDatagramKind.protected(.alert), .protected(.applicationData)] {
            #expect(destination(kind, established: old) == .established)
            #expect(destination(kind, established: old, pending: new) == .established)
            #expect(destination(kind, established: old, pending: new, secured: true) == .pendingThenEstablished)
            #expect(destination(kind, pending: new) == .pending)
        }
        #expect(destination(.invalid, established: old, pending: new) == .drop)
    }

    @Test("A restarted client does not harm the session before it until it authenticates itself")
    func replacement() throws {
        let secret = DTLSCookieSecret()
        let context = try DTLSContext.testServer()
        let listener = DTLSListener(context: context, secret: secret)
        var sessions: [DTLSDemultiplexer.Destination: DTLSSession] = [:]
        var read: [DTLSDemultiplexer.Destination: [[UInt8]]] = [:]

        func give(_ datagram: [UInt8]) {
            func hand(_ to: DTLSDemultiplexer.Destination) {
                sessions[to]?.handle(datagram, now: start)
                read[to, default: []] += sessions[to]?.readAll() ?? []
            }
            let known = DTLSDemultiplexer.Sessions(
                established: sessions[.established]?.clientRandom,
                pending: sessions[.pending]?.clientRandom,
                isPendingSecured: sessions[.pending]?.state == .established
            )
            switch DTLSDemultiplexer.destination(of: .classify(datagram), sessions: known) {
            case .listener:
                if case .session(let session) = listener.handle(datagram, peer: [1], now: start) {
                    sessions[.pending] = session
                }
            case .pending: hand(.pending)
            case .established: hand(.established)
            case .pendingThenEstablished:
                hand(.pending)
                hand(.established)
            case .unknownSession, .drop: Issue.record("unexpected")
            }
        }

        func dial() throws -> DTLSSession {
            let client = try DTLSSession(client: .testClient(), serverName: "localhost", mtu: 1200, now: start)
            for _ in 0..<5 {
                for datagram in client.transmitAll() { give(datagram) }
                for datagram in listener.transmitAll() + (sessions[.pending]?.transmitAll() ?? []) {
                    client.handle(datagram, now: start)
                }
            }
            #expect(client.state == .established)
            return client
        }

        let first = try dial()
        give(try first.seal([1]))
        #expect(read[.pending] == [[1]])
        sessions[.established] = sessions.removeValue(forKey: .pending)
        read = [:]

        let second = try dial()
        give(try second.seal([2]))
        give(try first.seal([3]))
        #expect(read[.pending] == [[2]])
        #expect(read[.established] == [[3]])
        #expect(sessions[.established]?.state == .established)
    }

    @Test("Headers are classified by type, version, epoch and length")
    func classify() throws {
        let client = try DTLSSession(client: .testClient(), serverName: "localhost", mtu: 1200, now: start)
        let hello = try #require(client.transmitAll().first)
        let random = try #require(client.clientRandom)
        #expect(DTLSDatagramKind.classify(hello) == .clientHello(random: random))
        for count in 0..<hello.count {
            #expect(DTLSDatagramKind.classify(Array(hello.prefix(count))) == .invalid)
        }
        func changed(_ at: Int, _ byte: UInt8) -> DTLSDatagramKind {
            var datagram = hello
            datagram[at] = byte
            return .classify(datagram)
        }
        #expect(changed(0, 23) == .epochZeroOther)
        #expect(changed(0, 21) == .epochZeroOther)
        #expect(changed(0, 25) == .invalid)
        #expect(changed(1, 3) == .invalid)
        #expect(changed(2, 0xfc) == .invalid)
        #expect(changed(4, 1) == .protected(.handshake))
        #expect(changed(3, 1) == .protected(.handshake))
        #expect(changed(11, 0xff) == .invalid)
        #expect(changed(13, 2) == .handshake)
        // A later fragment, and one too short for the random.
        #expect(changed(21, 1) == .handshake)
        #expect(changed(24, 20) == .handshake)
        #expect(DTLSDatagramKind.classify(hello + [1, 2, 3]) == .clientHello(random: random))
        #expect(DTLSDatagramKind.classify([]) == .invalid)
    }
}
