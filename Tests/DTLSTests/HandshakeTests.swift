import DTLS
import NIOCore
import TestSupport
import Testing

@Suite("Handshake")
struct HandshakeTests {
    @Test("Client and server agree and exchange records of every size in both directions")
    func agree() throws {
        let pair = try Pair().settle()
        #expect(pair.client.state == .established)
        #expect(pair.server?.state == .established)
        #expect(pair.client.alpn == "hop/1")
        #expect(pair.server?.alpn == "hop/1")
        #expect(pair.server?.serverName == "localhost")
        #expect(pair.client.cipher == "ECDHE-ECDSA-AES128-GCM-SHA256")
        #expect(pair.client.recordOverhead == 37)
        #expect(pair.client.clientRandom == pair.server?.clientRandom)
        #expect(pair.client.pollTimeout() == nil)
        #expect(pair.server?.pollTimeout() == nil)
        #expect(try pair.exchange())
    }

    @Test("Both ends export the same keying material, and another for another label")
    func exporter() throws {
        let pair = try Pair().settle()
        let server = try #require(pair.server)
        let mine = pair.client.exportKeyingMaterial(label: "EXPORTER-hop-join", length: 32)
        #expect(mine.count == 32)
        #expect(mine == server.exportKeyingMaterial(label: "EXPORTER-hop-join", length: 32))
        #expect(mine != server.exportKeyingMaterial(label: "EXPORTER-hop-other", length: 32))
    }

    @Test("The client knows the digest of the server's certificate")
    func leafDigest() throws {
        let pair = try Pair().settle()
        #expect(pair.client.peerLeafSHA256 == TestPKI.server.sha256)
        #expect(pair.server?.peerLeafSHA256 == nil)
    }

    @Test("The certificate is chosen by SNI, and the first one without a match")
    func selection() throws {
        let second = try DTLSContext.testServer(TestPKI.second)
        let base = try DTLSContext.testServer(select: { $0 == "second.test" ? second : nil })
        for name in ["second.test", "localhost", "a.wild.test", "127.0.0.1", "::1"] {
            let pair = try Pair(server: base, serverName: name).settle()
            #expect(pair.client.state == .established, "\(name): \(pair.client.failure?.description ?? "")")
            #expect(pair.server?.serverName == (name.contains("t") ? name : nil))
            #expect(pair.client.cipher.contains(name == "second.test" ? "RSA" : "ECDSA"))
            #expect(try pair.exchange())
        }
    }

    @Test("A context chosen by SNI may be released during its session")
    func selectedContextEnds() throws {
        let base = try DTLSContext.testServer(
            select: { _ in try? DTLSContext.testServer(TestPKI.second) })
        let pair = try Pair(server: base, serverName: "second.test").settle()
        #expect(pair.client.state == .established)
        #expect(try pair.exchange())
    }

    @Test("A chain of several datagrams arrives at any MTU, and no datagram is larger")
    func largeChain() throws {
        for mtu in [300, 576, 1200, 1452] {
            let pair = try Pair(server: .testServer(TestPKI.large), mtu: mtu)
            var largest = 0, sent = 0
            pair.alterServer = { datagram in
                largest = max(largest, datagram.count)
                sent += 1
                return datagram
            }
            pair.settle()
            #expect(pair.client.state == .established)
            #expect(largest <= mtu)
            #expect(sent > 4)
            #expect(pair.server?.droppedHandshakeDatagrams == 0)
        }
    }

    @Test("The hello fits one datagram of 1,200 bytes")
    func helloSize() throws {
        let name = String(repeating: "a", count: 63) + "." + String(repeating: "b", count: 63) + ".test"
        let client = try DTLSSession(client: .testClient(), serverName: name, mtu: 1200, now: start)
        let flight = client.transmitAll()
        #expect(flight.count == 1)
        #expect(flight[0].count < 600)
    }

    @Test("The round trip is that of the last flight")
    func roundTrip() throws {
        let pair = try Pair()
        pair.delay = .milliseconds(30)
        pair.settle()
        #expect(pair.client.handshakeRTT == .milliseconds(60))
        #expect(pair.server?.handshakeRTT == .milliseconds(60))
    }

    @Test("A close_notify closes the other side without a failure, and is answered once")
    func closing() throws {
        let pair = try Pair().settle()
        let server = try #require(pair.server)
        pair.client.close()
        #expect(pair.client.state == .closed)
        pair.settle()
        #expect(server.state == .closed)
        #expect(server.failure == nil)
        #expect(pair.client.failure == nil)
        pair.client.close()
        #expect(pair.client.transmitAll().isEmpty)
        #expect(throws: DTLSError.self) { try server.seal([1]) }
        #expect(server.failure == nil)
    }

    @Test("Closing during the handshake ends it without sending anything")
    func closeEarly() throws {
        let client = try DTLSSession(client: .testClient(), serverName: "localhost", mtu: 1200, now: start)
        client.close()
        #expect(client.state == .closed)
        #expect(client.pollTimeout() == nil)
        client.handleTimeout(now: start + .seconds(20))
        #expect(client.failure == nil)
    }

    @Test("Buffers released when idle are allocated again for the next record")
    func idleBuffers() throws {
        let pair = try Pair().settle()
        for _ in 0..<3 {
            pair.client.releaseIdleBuffers()
            pair.server?.releaseIdleBuffers()
            #expect(try pair.exchange())
        }
    }

    @Test("Several records in one datagram are read one by one")
    func coalesced() throws {
        let pair = try Pair().settle()
        let server = try #require(pair.server)
        let messages = (0..<20).map { [UInt8](repeating: UInt8($0), count: 40 + $0) }
        let datagram = try messages.flatMap { try pair.client.seal($0) }
        server.handle(datagram, now: start)
        #expect(server.readAll() == messages)
        #expect(try pair.exchange())
    }

    @Test("The datagram's memory may be reused before the records are read")
    func borrowedMemory() throws {
        let pair = try Pair().settle()
        let server = try #require(pair.server)
        var datagram = try pair.client.seal([1, 2, 3]) + pair.client.seal([4, 5, 6])
        datagram.withUnsafeMutableBytes { bytes in
            server.handle(datagram: UnsafeRawBufferPointer(bytes), now: start)
            for index in bytes.indices { bytes[index] = 0xff }
        }
        #expect(server.readAll() == [[1, 2, 3], [4, 5, 6]])
    }

    @Test("Records that travel with the end of the handshake are not lost")
    func recordsBehindFinished() throws {
        let pair = try Pair()
        // The client's last flight opens the server's session; its first record follows in the same datagram.
        var held: [[UInt8]] = []
        while pair.client.state != .established {
            for datagram in pair.client.transmitAll() { pair.deliverToServer(datagram) }
            held = pair.listener.transmitAll() + (pair.server?.transmitAll() ?? [])
            if pair.server?.state == .established { break }
            for datagram in held { pair.client.handle(datagram, now: start) }
        }
        let server = try #require(pair.server)
        let record = try server.seal([42])
        pair.client.handle(held.flatMap { $0 } + record, now: start)
        #expect(pair.client.state == .established)
        #expect(pair.client.readAll() == [[42]])
        #expect(try pair.exchange())
    }

    @Test("Refused: a peer without the extended master secret")
    func extendedMasterSecret() throws {
        let pair = try Pair()
        // Turns the empty extension 23 into an unknown one.
        pair.alterClient = { replaceFirst([0, 23, 0, 0], with: [0xfa, 0xfa, 0, 0], in: $0) }
        pair.settle()
        #expect(pair.server?.state == .closed)
        #expect(pair.server?.failure?.code == .noExtendedMasterSecret)
        #expect(pair.client.failure?.code == .peerAlert(40))
    }

    @Test("Refused: no application protocol in common")
    func alpnMismatch() throws {
        let pair = try Pair(client: .testClient(alpn: ["other/1"])).settle()
        #expect(pair.server?.failure?.code == .noApplicationProtocol)
        #expect(pair.client.failure?.code == .noApplicationProtocol)
    }

    @Test("Refused: a hello that names no application protocol")
    func alpnMissing() throws {
        let pair = try Pair()
        let extension16: [UInt8] = [0, 16, 0, 8, 0, 6, 5] + Array("hop/1".utf8)
        pair.alterClient = { replaceFirst(extension16, with: [0xfa, 0xfa] + extension16.dropFirst(2), in: $0) }
        pair.settle()
        #expect(pair.server?.failure?.code == .noApplicationProtocol)
        #expect(pair.client.failure?.code == .noApplicationProtocol)
    }

    @Test("The server's order of protocols decides")
    func alpnOrder() throws {
        let pair = try Pair(
            server: .testServer(alpn: ["hop-mesh/1", "hop/1"]),
            client: .testClient(alpn: ["hop/1", "hop-mesh/1"])
        ).settle()
        #expect(pair.client.alpn == "hop-mesh/1")
        #expect(pair.server?.alpn == "hop-mesh/1")
    }

    @Test("A changed certificate is used for later sessions and not for existing ones")
    func newContext() throws {
        let pair = try Pair().settle()
        pair.listener.use(try .testServer(TestPKI.second))
        #expect(try pair.exchange())
        let later = try DTLSSession(client: .testClient(), serverName: "second.test", mtu: 1200, now: start)
        var server: DTLSSession?
        for _ in 0..<6 {
            for datagram in later.transmitAll() {
                if let server {
                    server.handle(datagram, now: start)
                } else if case .session(let session) = pair.listener.handle(datagram, peer: [9], now: start) {
                    server = session
                }
            }
            for datagram in pair.listener.transmitAll() + (server?.transmitAll() ?? []) {
                later.handle(datagram, now: start)
            }
        }
        #expect(later.state == .established)
    }
}

func replaceFirst(_ pattern: [UInt8], with replacement: [UInt8], in bytes: [UInt8]) -> [UInt8] {
    var bytes = bytes
    for at in bytes.indices.dropLast(pattern.count - 1) where bytes[at..<at + pattern.count].elementsEqual(pattern) {
        bytes.replaceSubrange(at..<at + pattern.count, with: replacement)
        break
    }
    return bytes
}
