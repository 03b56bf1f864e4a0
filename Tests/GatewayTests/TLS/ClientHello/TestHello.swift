import NIOCore
import NIOEmbedded
import NIOSSL

/// A ClientHello built by hand, valid or invalid.
struct TestHello {
    var serverName: String? = "app.test"
    var protocols: [String]? = ["acme-tls/1"]
    /// The extensions before the two above: type and data.
    var extensions: [(type: UInt16, data: [UInt8])] = []
    var sessionID = [UInt8](repeating: 7, count: 32)
    var cipherSuites: [UInt8] = [0x13, 0x01, 0x13, 0x02]

    /// The hello that browsers send since 2024: GREASE, a key share of X25519MLKEM768 (1,216 bytes) and one of X25519,
    /// and a GREASE encrypted ClientHello.
    static var postQuantum: TestHello {
        var hello = TestHello()
        let shares = share(0x2A2A, 1) + share(0x11EC, 1_216) + share(0x001D, 32)
        hello.cipherSuites = [0x3A, 0x3A] + hello.cipherSuites
        hello.extensions = [
            (0x4A4A, []), (43, [4, 3, 4, 3, 3]), (10, vector16([0x2A, 0x2A, 0x11, 0xEC, 0, 0x1D])),
            (51, vector16(shares)), (0xFE0D, [UInt8](repeating: 0xEC, count: 186)), (0x5A5A, [0]),
        ]
        return hello
    }

    private static func share(_ group: UInt16, _ count: Int) -> [UInt8] {
        big(group) + vector16([UInt8](repeating: 0xA5, count: count))
    }

    var message: [UInt8] {
        var list = extensions
        if let serverName { list.append((0, Self.vector16([0] + Self.vector16(Array(serverName.utf8))))) }
        if let protocols { list.append((16, Self.vector16(protocols.flatMap { [UInt8($0.utf8.count)] + $0.utf8 }))) }
        let body =
            [3, 3] + [UInt8](repeating: 0x11, count: 32) + [UInt8(sessionID.count)] + sessionID
            + Self.vector16(cipherSuites) + [1, 0]
            + Self.vector16(list.flatMap { Self.big($0.type) + Self.vector16($0.data) })
        return Self.handshake(body)
    }

    /// The message in one record.
    var bytes: [UInt8] { Self.records(message, of: 1 << 14) }

    static func handshake(_ body: [UInt8]) -> [UInt8] {
        [1, UInt8(body.count >> 16), UInt8(body.count >> 8 & 0xFF), UInt8(body.count & 0xFF)] + body
    }

    /// The message in records with `size` bytes each.
    static func records(_ message: [UInt8], of size: Int) -> [UInt8] {
        stride(from: 0, to: message.count, by: size).flatMap { start in
            record(Array(message[start..<min(message.count, start + size)]))
        }
    }

    static func record(_ payload: [UInt8], type: UInt8 = 22) -> [UInt8] {
        [type, 3, 1] + big(UInt16(payload.count)) + payload
    }

    static func vector16(_ bytes: [UInt8]) -> [UInt8] { big(UInt16(bytes.count)) + bytes }
    static func big(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xFF)] }

    /// The hello of BoringSSL with a post-quantum key share.
    static func boringSSL(serverName: String, protocols: [String]) throws -> [UInt8] {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.applicationProtocols = protocols
        configuration.certificateVerification = .none
        let context = try NIOSSLContext(configuration: configuration)
        let channel = EmbeddedChannel(handler: try NIOSSLClientHandler(context: context, serverHostname: serverName))
        channel.connect(to: try SocketAddress(ipAddress: "192.0.2.1", port: 443), promise: nil)
        var bytes: [UInt8] = []
        while let part = try channel.readOutbound(as: ByteBuffer.self) { bytes += part.readableBytesView }
        _ = try? channel.finish(acceptAlreadyClosed: true)
        return bytes
    }
}
