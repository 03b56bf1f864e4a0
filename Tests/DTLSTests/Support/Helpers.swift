import DTLS
import NIOCore
import TestSupport

/// The SplitMix64 generator: the same numbers for the same seed.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 0x1234_5678
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    mutating func chance(_ probability: Double) -> Bool {
        Double.random(in: 0..<1, using: &self) < probability
    }
}

let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

extension DTLSContext {
    static func testServer(
        _ identity: TestCertificate = TestPKI.server,
        alpn: [String] = ["hop/1"],
        clientTrust: [UInt8]? = nil,
        select: (@Sendable (String?) -> DTLSContext?)? = nil
    ) throws -> DTLSContext {
        try .server(
            DTLSServerConfiguration(
                certificateChainPEM: identity.chainBytes,
                privateKeyPEM: identity.keyBytes,
                alpn: alpn,
                clientTrustPEM: clientTrust,
                selectContext: select
            )
        )
    }

    static func testClient(
        trust: DTLSTrust? = nil,
        alpn: [String] = ["hop/1"],
        presenting certificate: TestCertificate? = nil
    ) throws -> DTLSContext {
        let identity = certificate.map {
            DTLSIdentity(certificateChainPEM: $0.chainBytes, privateKeyPEM: $0.keyBytes)
        }
        return try .client(
            DTLSClientConfiguration(trust: trust ?? .caPEM(TestAuthority.shared.pem), alpn: alpn, identity: identity)
        )
    }
}

extension DTLSSession {
    func handle(_ datagram: [UInt8], now: NIODeadline) {
        datagram.withUnsafeBytes { handle(datagram: $0, now: now) }
    }

    func transmitAll() -> [[UInt8]] {
        drain { pollTransmit(into: $0) }
    }

    func readAll() -> [[UInt8]] {
        drain { read(into: $0) }
    }

    func seal(_ plaintext: [UInt8]) throws -> [UInt8] {
        var datagram = [UInt8](repeating: 0, count: plaintext.count + recordOverhead)
        let count = try plaintext.withUnsafeBytes { plaintext in
            try datagram.withUnsafeMutableBytes { try seal(plaintext, into: $0) }
        }
        return Array(datagram.prefix(count))
    }
}

extension DTLSListener {
    func handle(_ datagram: [UInt8], peer: [UInt8], now: NIODeadline) -> Answer {
        datagram.withUnsafeBytes { datagram in
            peer.withUnsafeBytes { handle(datagram: datagram, peer: $0, now: now) }
        }
    }

    func transmitAll() -> [[UInt8]] {
        drain { pollTransmit(into: $0) }
    }
}

extension DTLSDatagramKind {
    static func classify(_ datagram: [UInt8]) -> DTLSDatagramKind {
        datagram.withUnsafeBytes { classify($0) }
    }
}

private func drain(_ next: (UnsafeMutableRawBufferPointer) -> Int?) -> [[UInt8]] {
    var result: [[UInt8]] = []
    withUnsafeTemporaryAllocation(byteCount: 20_000, alignment: 16) { buffer in
        while let count = next(buffer) { result.append(Array(buffer[..<count])) }
    }
    return result
}

/// A client and a listener, on a network that by default loses nothing and has no delay.
final class Pair {
    let client: DTLSSession
    let listener: DTLSListener
    var server: DTLSSession?
    var now = start
    var peer: [UInt8] = [2, 0, 0x12, 0x34, 127, 0, 0, 1]
    /// A change of the client's datagrams on the way.
    var alterClient: ([UInt8]) -> [UInt8] = { $0 }
    var alterServer: ([UInt8]) -> [UInt8] = { $0 }
    /// The delay of one direction.
    var delay = TimeAmount.zero
    private(set) var serverReads: [[UInt8]] = []
    private(set) var clientReads: [[UInt8]] = []

    init(
        server: DTLSContext? = nil,
        client: DTLSContext? = nil,
        serverName: String? = "localhost",
        secret: DTLSCookieSecret = DTLSCookieSecret(),
        mtu: Int = 1200
    ) throws {
        listener = DTLSListener(context: try server ?? .testServer(), secret: secret, mtu: mtu)
        self.client = try DTLSSession(client: client ?? .testClient(), serverName: serverName, mtu: mtu, now: start)
    }

    /// Delivers until neither side sends anything more.
    @discardableResult
    func settle() -> Pair {
        var idle = false
        while !idle {
            idle = true
            for datagram in client.transmitAll() {
                idle = false
                now = now + delay
                deliverToServer(alterClient(datagram))
            }
            for datagram in listener.transmitAll() + (server?.transmitAll() ?? []) {
                idle = false
                now = now + delay
                client.handle(alterServer(datagram), now: now)
                clientReads += client.readAll()
            }
        }
        return self
    }

    func deliverToServer(_ datagram: [UInt8]) {
        if let server {
            server.handle(datagram, now: now)
            serverReads += server.readAll()
        } else if case .session(let session) = listener.handle(datagram, peer: peer, now: now) {
            server = session
        }
    }

    /// Exchanges records of several sizes in both directions.
    func exchange() throws -> Bool {
        guard let server else { return false }
        for size in [1, 100, 1163, 8952, 16_384] {
            let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) }
            server.handle(try client.seal(bytes), now: now)
            guard server.readAll() == [bytes] else { return false }
            client.handle(try server.seal(bytes), now: now)
            guard client.readAll() == [bytes] else { return false }
        }
        return true
    }
}
