import DTLS
import NIOCore
import TestSupport
import Testing

/// Tests against the programs of Debian's openssl and gnutls-bin, over loopback.
@Suite("Interoperation", .serialized)
struct InteropTests {
    private let folder = ScratchFolder()
    private let root: String
    private let certificate: String
    private let key: String

    init() {
        root = folder.write("root.pem", TestAuthority.shared.pem)
        certificate = folder.write("server.pem", TestPKI.server.chain)
        key = folder.write("server.key", TestPKI.server.key)
    }

    private func openSSLClient(_ pump: UDPPump, _ more: [String]) throws -> OtherProgram {
        try OtherProgram(
            "openssl",
            [
                "s_client", "-dtls1_2", "-connect", "127.0.0.1:\(pump.socket.port)", "-CAfile", root,
                "-verify_return_error",
            ] + more
        )
    }

    /// Starts a server and waits until it receives datagrams.
    private func openSSLServer(_ more: [String], environment: [String: String] = [:]) throws -> (OtherProgram, UInt16) {
        let port = OtherProgram.freePort()
        let program = try OtherProgram(
            "openssl",
            [
                "s_server", "-dtls1_2", "-accept", "127.0.0.1:\(port)", "-cert", certificate, "-key",
                key,
            ] + more,
            environment: environment
        )
        let waiter = LoopbackSocket()
        let deadline = NIODeadline.now() + .seconds(10)
        while !program.output.contains("ACCEPT"), NIODeadline.now() < deadline {
            _ = waiter.receive(milliseconds: 10)
        }
        return (program, port)
    }

    @Test("openssl s_client: handshake, data in both directions, close_notify")
    func openSSLClient() throws {
        let pump = UDPPump(server: try .testServer())
        let program = try openSSLClient(
            pump,
            ["-alpn", "hop/1", "-servername", "localhost", "-verify_hostname", "localhost"]
        )
        try #require(pump.run { $0.session?.state == .established }, "\(program.output)")
        program.type("from the client\n")
        #expect(pump.run { $0.received == Array("from the client\n".utf8) })
        try pump.send(Array("from the server\n".utf8))
        #expect(pump.run { _ in program.output.contains("from the server") })
        #expect(program.output.contains("Verification: OK"))
        #expect(program.output.contains("ALPN protocol: hop/1"))
        #expect(program.output.contains("Extended master secret: yes"))
        #expect(program.output.contains("ECDHE-ECDSA-AES128-GCM-SHA256"))
        #expect(pump.session?.serverName == "localhost")
        program.type("Q\n")
        #expect(pump.run { $0.session?.state == .closed })
        #expect(pump.session?.failure == nil)
    }

    @Test("openssl s_client: ChaCha20-Poly1305 adds 29 bytes per record")
    func chaCha() throws {
        let pump = UDPPump(server: try .testServer())
        let program = try openSSLClient(
            pump,
            ["-alpn", "hop/1", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"]
        )
        try #require(pump.run { $0.session?.state == .established }, "\(program.output)")
        #expect(pump.session?.recordOverhead == 29)
        #expect(try pump.session?.seal([1, 2, 3]).count == 32)
    }

    @Test("openssl s_client: renegotiation is refused")
    func renegotiation() throws {
        let pump = UDPPump(server: try .testServer())
        let program = try openSSLClient(pump, ["-alpn", "hop/1"])
        try #require(pump.run { $0.session?.state == .established }, "\(program.output)")
        let random = pump.session?.clientRandom
        program.type("R\n")
        // We answer with the warning no_renegotiation; s_client ends the session then.
        #expect(pump.run { _ in program.output.contains("no renegotiation") }, "\(program.output)")
        #expect(pump.session?.clientRandom == random)
        #expect(pump.session?.failure == nil || pump.session?.failure?.code == .peerAlert(40))
    }

    @Test("openssl s_client without our protocol, without a cipher of ours, or with DTLS 1.0 only, is refused")
    func refused() throws {
        let cases: [([String], DTLSError.Code)] = [
            ([], .noApplicationProtocol),
            (["-alpn", "http/1.1"], .noApplicationProtocol),
            (["-alpn", "hop/1", "-cipher", "AES128-GCM-SHA256"], .noCommonParameters),
            (["-alpn", "hop/1", "-cipher", "ECDHE-ECDSA-AES256-SHA384"], .noCommonParameters),
            (["-alpn", "hop/1", "-cipher", "DHE-RSA-AES128-GCM-SHA256"], .noCommonParameters),
        ]
        for (arguments, code) in cases {
            let pump = UDPPump(server: try .testServer())
            let program = try openSSLClient(pump, arguments)
            #expect(pump.run { $0.session?.state == .closed }, "\(arguments): \(program.output)")
            #expect(pump.session?.failure?.code == code, "\(arguments): \(String(describing: pump.session?.failure))")
            #expect(pump.run { _ in !program.isRunning }, "\(arguments)")
        }
    }

    @Test(
        "openssl s_server: handshake, data in both directions, with and without cookies",
        arguments: [[], ["-listen"]]
    )
    func openSSLServer(more: [String]) throws {
        let (program, port) = try openSSLServer(["-alpn", "hop/1"] + more)
        let pump = try UDPPump(client: .testClient(), serverName: "localhost", port: port)
        try #require(pump.run { $0.session?.state == .established }, "\(program.output)")
        #expect(pump.session?.alpn == "hop/1")
        #expect(pump.session?.handshakeRTT != nil)
        try pump.send(Array("from the client\n".utf8))
        #expect(pump.run { _ in program.output.contains("from the client") })
        program.type("from the server\n")
        #expect(pump.run { $0.received == Array("from the server\n".utf8) })
        // s_server cannot send close_notify: it closes its socket first.
        pump.close()
        #expect(pump.run { _ in program.output.contains("DONE") }, "\(program.output)")
    }

    @Test("openssl s_server: its request to renegotiate is refused")
    func serverRenegotiation() throws {
        let (program, port) = try openSSLServer(["-alpn", "hop/1"])
        let pump = try UDPPump(client: .testClient(), serverName: "localhost", port: port)
        try #require(pump.run { $0.session?.state == .established }, "\(program.output)")
        let random = pump.session?.clientRandom
        program.type("r\n")
        let before = program.output.count
        // s_server also gives up when it reads our warning.
        _ = pump.run(seconds: 1) { $0.session?.state == .closed || program.output.count > before + 60 }
        #expect(pump.session?.failure == nil || pump.session?.failure?.code == .peerAlert(40))
        #expect(pump.session?.clientRandom == random)
    }

    @Test("openssl s_server without the extended master secret, without our protocol, or for another name is refused")
    func refusedServers() throws {
        let plain = folder.write(
            "no-ems.cnf",
            "openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\nOptions=-ExtendedMasterSecret\n"
        )
        let cases: [([String], [String: String], String, DTLSError.Code)] = [
            (["-alpn", "hop/1"], ["OPENSSL_CONF": plain], "localhost", .noExtendedMasterSecret),
            ([], [:], "localhost", .noApplicationProtocol),
            (["-alpn", "http/1.1"], [:], "localhost", .noApplicationProtocol),
            (["-alpn", "hop/1"], [:], "example.test", .nameMismatch),
        ]
        for (arguments, environment, name, code) in cases {
            let (program, port) = try openSSLServer(arguments, environment: environment)
            let pump = try UDPPump(client: .testClient(), serverName: name, port: port)
            #expect(pump.run { $0.session?.state == .closed }, "\(arguments): \(program.output)")
            #expect(pump.session?.failure?.code == code, "\(arguments): \(String(describing: pump.session?.failure))")
        }
    }

    @Test("gnutls-cli --udp: handshake, data in both directions")
    func gnuTLSClient() throws {
        let pump = UDPPump(server: try .testServer())
        let program = try OtherProgram(
            "gnutls-cli",
            [
                "--udp", "--port", "\(pump.socket.port)", "--alpn", "hop/1", "--x509cafile", root,
                "--verify-hostname", "localhost", "--sni-hostname", "localhost", "127.0.0.1",
            ]
        )
        try #require(pump.run { $0.session?.state == .established }, "\(program.output)")
        #expect(pump.run { _ in program.output.contains("Handshake was completed") }, "\(program.output)")
        program.type("from the client\n")
        #expect(pump.run { $0.received == Array("from the client\n".utf8) }, "\(program.output)")
        try pump.send(Array("from the server\n".utf8))
        #expect(pump.run { _ in program.output.contains("from the server") }, "\(program.output)")
        #expect(program.output.contains("Status: The certificate is trusted"))
        #expect(pump.session?.serverName == "localhost")
        program.endInput()
        #expect(pump.run { $0.session?.state == .closed || !program.isRunning })
        #expect(pump.session?.failure == nil)
    }

    @Test("gnutls-cli without the extended master secret is refused")
    func gnuTLSWithoutExtendedMasterSecret() throws {
        let pump = UDPPump(server: try .testServer())
        let program = try OtherProgram(
            "gnutls-cli",
            [
                "--udp", "--port", "\(pump.socket.port)", "--alpn", "hop/1", "--x509cafile", root,
                "--priority", "NORMAL:%NO_SESSION_HASH", "--verify-hostname", "localhost", "127.0.0.1",
            ]
        )
        #expect(pump.run { $0.session?.state == .closed }, "\(program.output)")
        #expect(pump.session?.failure?.code == .noExtendedMasterSecret)
    }

    @Test("gnutls-serv --udp: handshake and echo")
    func gnuTLSServer() throws {
        let port = OtherProgram.freePort()
        let program = try OtherProgram(
            "gnutls-serv",
            [
                "--udp", "--echo", "--port", "\(port)", "--x509certfile", certificate, "--x509keyfile",
                key, "--alpn", "hop/1", "--disable-client-cert",
            ]
        )
        let pump = try UDPPump(client: .testClient(), serverName: "localhost", port: port)
        try #require(pump.run { $0.session?.state == .established }, "\(program.output)")
        try pump.send(Array("there and back\n".utf8))
        #expect(pump.run { $0.received.starts(with: Array("there and back".utf8)) }, "\(program.output)")
    }
}
