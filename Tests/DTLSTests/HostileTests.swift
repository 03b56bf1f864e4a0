import DTLS
import NIOCore
import Testing

@Suite("Hostile datagrams")
struct HostileTests {
    /// Checks that both sides still work.
    private func expectUnharmed(_ pair: Pair, _ what: String) throws {
        #expect(pair.client.state == .established, "\(what): \(pair.client.failure?.description ?? "")")
        #expect(pair.server?.state == .established, "\(what): \(pair.server?.failure?.description ?? "")")
        #expect(pair.server?.transmitAll().isEmpty == true, "\(what)")
        #expect(try pair.exchange(), "\(what)")
    }

    private func give(_ datagram: [UInt8], to pair: Pair) -> [[UInt8]] {
        pair.server?.handle(datagram, now: start)
        pair.client.handle(datagram, now: start)
        return pair.server!.readAll() + pair.client.readAll()
    }

    @Test("Garbage of every length is dropped")
    func garbage() throws {
        let pair = try Pair().settle()
        var random = SeededRandom(seed: 1)
        for round in 0..<3_000 {
            let count = round < 100 ? round : Int.random(in: 0...2_000, using: &random)
            #expect(give((0..<count).map { _ in .random(in: 0...255, using: &random) }, to: pair).isEmpty)
        }
        try expectUnharmed(pair, "garbage")
    }

    @Test("Garbage behind every plausible header is dropped")
    func plausible() throws {
        let pair = try Pair().settle()
        var random = SeededRandom(seed: 2)
        for type in UInt8(19)...26 {
            for epoch in UInt8(0)...3 {
                for count in [0, 1, 2, 7, 8, 23, 24, 25, 100, 1_200] {
                    for minor: UInt8 in [0xff, 0xfd, 0xfc] {
                        var datagram: [UInt8] = [type, 0xfe, minor, 0, epoch, 0, 0]
                        datagram += (0..<4).map { _ in .random(in: 0...255, using: &random) }
                        datagram += [UInt8(count >> 8), UInt8(count & 255)]
                        datagram += (0..<count).map { _ in .random(in: 0...255, using: &random) }
                        #expect(give(datagram, to: pair).isEmpty)
                    }
                }
            }
        }
        try expectUnharmed(pair, "plausible headers")
    }

    @Test("A record that is truncated or changed in any byte is dropped")
    func corrupt() throws {
        let pair = try Pair().settle()
        let server = try #require(pair.server)
        let good = try pair.client.seal([UInt8](repeating: 9, count: 60))
        for count in 0..<good.count {
            #expect(give(Array(good.prefix(count)), to: pair).isEmpty)
        }
        for at in good.indices {
            var bad = good
            bad[at] ^= 0x41
            #expect(give(bad, to: pair).isEmpty, "byte \(at)")
        }
        server.handle(good, now: start)
        #expect(server.readAll().count == 1)
        try expectUnharmed(pair, "corruption")
    }

    @Test("A good record behind a bad one in the same datagram still arrives")
    func goodBehindBad() throws {
        let pair = try Pair().settle()
        let server = try #require(pair.server)
        var bad = try pair.client.seal([1])
        bad[bad.count - 1] ^= 1
        server.handle(bad + (try pair.client.seal([2])), now: start)
        #expect(server.readAll() == [[2]])
        try expectUnharmed(pair, "bad before good")
    }

    @Test("A replayed record is dropped, and so is one overtaken by 64 later ones")
    func replay() throws {
        let pair = try Pair().settle()
        let server = try #require(pair.server)
        let records = try (0..<70).map { try pair.client.seal([UInt8($0)]) }
        func give(_ records: some Sequence<[UInt8]>) -> Int {
            var count = 0
            for record in records {
                server.handle(record, now: start)
                count += server.readAll().count
            }
            return count
        }
        #expect(give(records.dropFirst(6)) == 64)
        #expect(give(records.dropFirst(6)) == 0)
        #expect(give(records.prefix(6)) == 0)
        try expectUnharmed(pair, "replay")
    }

    @Test("Records of another session are dropped")
    func foreign() throws {
        let pair = try Pair().settle()
        let other = try Pair().settle()
        for _ in 0..<100 {
            #expect(give(try other.client.seal([1, 2, 3]), to: pair).isEmpty)
        }
        try expectUnharmed(pair, "foreign records")
    }

    @Test("Plaintext alerts, including the alert for unknown sessions, do not end an established session")
    func plaintextAlerts() throws {
        let pair = try Pair().settle()
        for level in UInt8(0)...3 {
            for description in UInt8(0)...130 {
                #expect(give([21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, level, description], to: pair).isEmpty)
            }
        }
        var alert = [UInt8](repeating: 0, count: DTLSUnknownSessionAlert.count)
        #expect(alert.withUnsafeMutableBytes { DTLSUnknownSessionAlert.write(into: $0) } == 15)
        #expect(alert.withUnsafeBytes { DTLSUnknownSessionAlert.matches($0) })
        #expect(give(alert, to: pair).isEmpty)
        try expectUnharmed(pair, "alerts")
    }

    @Test("The whole handshake of another client, replayed into an established session, is dropped")
    func replayedHandshake() throws {
        var flights: [[UInt8]] = []
        let recorded = try Pair()
        recorded.alterClient = {
            flights.append($0)
            return $0
        }
        recorded.alterServer = recorded.alterClient
        recorded.settle()
        let pair = try Pair().settle()
        for datagram in flights { #expect(give(datagram, to: pair).isEmpty) }
        for datagram in flights { #expect(give(datagram, to: recorded).isEmpty) }
        // Only the end of its own handshake may make a server send: the client might have lost the answer.
        _ = recorded.server?.transmitAll()
        try expectUnharmed(pair, "foreign handshake")
        #expect(try recorded.exchange())
    }

    @Test("Unknown-session alerts, garbage and unencrypted application data do not end a handshake")
    func duringHandshake() throws {
        let pair = try Pair()
        var random = SeededRandom(seed: 3)
        let plaintextData: [UInt8] = [23, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 5, 0, 3, 1, 2, 3]
        var alert = [UInt8](repeating: 0, count: DTLSUnknownSessionAlert.count)
        _ = alert.withUnsafeMutableBytes { DTLSUnknownSessionAlert.write(into: $0) }
        var noise: [[UInt8]] = [plaintextData, plaintextData + plaintextData, alert, [], [22]]
        for count in [5, 13, 14, 60, 1_000] {
            noise.append((0..<count).map { _ in .random(in: 0...255, using: &random) })
        }
        let disturb: ([UInt8]) -> [UInt8] = { datagram in
            for bytes in noise {
                pair.client.handle(bytes, now: start)
                pair.server?.handle(bytes, now: start)
            }
            return datagram
        }
        pair.alterClient = disturb
        pair.alterServer = disturb
        pair.settle()
        try expectUnharmed(pair, "noise during the handshake")
    }

    @Test("The listener still answers after garbage and changed hellos")
    func listener() throws {
        let listener = DTLSListener(context: try .testServer(), secret: DTLSCookieSecret())
        let client = try DTLSSession(client: .testClient(), serverName: "localhost", mtu: 1200, now: start)
        let hello = try #require(client.transmitAll().first)
        var random = SeededRandom(seed: 4)
        for _ in 0..<5_000 {
            var datagram = hello
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                datagram[Int.random(in: datagram.indices, using: &random)] = .random(in: 0...255, using: &random)
            }
            datagram.removeLast(Int.random(in: 0...3, using: &random))
            if case .session = listener.handle(datagram, peer: [1], now: start) { Issue.record("a session of nothing") }
            for reply in listener.transmitAll() { #expect(reply.count <= datagram.count) }
        }
        guard case .reply = listener.handle(hello, peer: [1], now: start) else {
            Issue.record("the listener is harmed")
            return
        }
    }

    @Test("A session that receives mutations of its own flights ends at most with a typed error")
    func mutatedFlights() throws {
        for seed in UInt64(0)..<300 {
            var random = SeededRandom(seed: seed)
            let pair = try Pair()
            let mutate: ([UInt8]) -> [UInt8] = { datagram in
                var datagram = datagram
                guard !datagram.isEmpty, random.chance(0.3) else { return datagram }
                for _ in 0..<3 {
                    datagram[.random(in: datagram.indices, using: &random)] = .random(in: 0...255, using: &random)
                }
                return datagram
            }
            pair.alterClient = mutate
            pair.alterServer = mutate
            pair.settle()
            for end in [pair.client, pair.server].compactMap({ $0 }) where end.state == .closed && end.failure == nil {
                // close_notify in the clear is equivalent to an alert: the handshake ends either way.
                #expect(end.pollTimeout() == nil)
            }
        }
    }
}
