import ACME
import Certificates
import Gateway
import NIOCore
import TestSupport
import Testing

@Suite("TLS-ALPN-01 on the public port")
struct ChallengeHandshakeTests {
    private func answer(_ name: String, at gateway: TestGateway) throws {
        let name = try #require(CertificateName(name))
        let task = ChallengeTask(.tlsALPN01, name, token: "token", key: AccountKey())
        #expect(gateway.process.challenges.replace(with: [task]).isEmpty)
    }

    private func port(_ gateway: TestGateway) throws -> String {
        String(try #require(gateway.process.httpsAddress.port))
    }

    /// The value of one of the gateway's metrics.
    private func metric(_ series: String, at gateway: TestGateway) async throws -> Int? {
        let ops = try await TestClient.connect(to: gateway.process.opsAddress, serverName: nil)
        try await ops.send("GET /metrics HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n")
        try await ops.waitForClose()
        let line = ops.text.split(whereSeparator: \.isNewline).first { $0.hasPrefix("hopgate_\(series) ") }
        return line.flatMap { $0.split(separator: " ").last }.flatMap { Int($0) }
    }

    private func results(_ gateway: TestGateway, _ result: ALPNChallenges.Result) async throws -> Int? {
        try await metric("tls_alpn_challenges_total{result=\"\(result.rawValue)\"}", at: gateway)
    }

    // MARK: External clients

    @Test(
        "openssl receives the challenge's certificate and acme-tls/1, with TLS 1.2 and 1.3, and the connection is closed",
        arguments: ["-tls1_2", "-tls1_3"]
    )
    func openssl(_ version: String) async throws {
        try await TestGateway.with(loops: 1) { gateway in
            try answer("app.test", at: gateway)
            let result = try await ExternalProgram.run(
                [
                    "openssl", "s_client", version, "-connect", "127.0.0.1:\(port(gateway))", "-alpn", "acme-tls/1",
                    "-servername", "app.test",
                ],
                input: "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
            )
            #expect(result.output.contains("ALPN protocol: acme-tls/1"), "\(result.output)")
            #expect(result.output.contains("CN = ACME challenge"))
            #expect(!result.output.contains("HTTP/1.1 "))
            let start = try #require(result.output.firstRange(of: "-----BEGIN CERTIFICATE-----"))
            let shown = try await ExternalProgram.run(
                ["openssl", "x509", "-noout", "-text"],
                input: String(result.output[start.lowerBound...])
            )
            #expect(shown.output.contains("DNS:app.test\n"))
            #expect(shown.output.contains("1.3.6.1.5.5.7.1.31: critical"))
            #expect(try await results(gateway, .answered) == 1)
        }
    }

    @Test("openssl receives the alert unrecognized_name for a name without a challenge, and it is counted")
    func unknownName() async throws {
        try await TestGateway.with(loops: 1) { gateway in
            try answer("app.test", at: gateway)
            let result = try await ExternalProgram.run([
                "openssl", "s_client", "-connect", "127.0.0.1:\(port(gateway))", "-alpn", "acme-tls/1", "-servername",
                "other.test",
            ])
            #expect(result.status != 0)
            #expect(result.output.contains("unrecognized name"), "\(result.output)")
            #expect(try await results(gateway, .unknownName) == 1)
            #expect(try await metric("tls_handshake_failures_total", at: gateway) == 1)
        }
    }

    @Test("gnutls-cli receives the challenge's certificate")
    func gnutls() async throws {
        try await TestGateway.with(loops: 1) { gateway in
            try answer("app.test", at: gateway)
            let result = try await ExternalProgram.run([
                "gnutls-cli", "--insecure", "--sni-hostname", "app.test", "--alpn", "acme-tls/1", "127.0.0.1", "-p",
                port(gateway),
            ])
            #expect(result.output.contains("ACME challenge"), "\(result.output)")
            #expect(result.output.contains("Handshake was completed"))
            #expect(try await results(gateway, .answered) == 1)
        }
    }

    @Test("Python's ssl reads no byte before the end of the connection; an address is validated by its reverse name")
    func python() async throws {
        try await TestGateway.with(loops: 1) { gateway in
            try answer("192.0.2.17", at: gateway)
            let script = """
                import socket, ssl, sys
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                context.set_alpn_protocols(["acme-tls/1"])
                plain = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
                with context.wrap_socket(plain, server_hostname="17.2.0.192.in-addr.arpa") as tls:
                    print(tls.selected_alpn_protocol(), tls.recv(100))
                """
            let result = try await ExternalProgram.run(["python3", "-c", script, port(gateway)])
            #expect(result.output.contains("acme-tls/1 "), "\(result.output)")
            #expect(result.output.contains("b''"))
            #expect(try await results(gateway, .answered) == 1)
        }
    }

    @Test("curl is an ordinary client while a challenge is pending")
    func curl() async throws {
        try await TestGateway.with(loops: 1) { gateway in
            try answer("app.test", at: gateway)
            let port = try port(gateway)
            let result = try await ExternalProgram.run([
                "curl", "-sk", "--noproxy", "*", "--resolve", "app.test:\(port):127.0.0.1", "-o", "/dev/null", "-w",
                "%{http_code}", "https://app.test:\(port)/",
            ])
            #expect(result.output == "503")
        }
    }

    // MARK: Unusual segments and records

    @Test(
        "BoringSSL's post-quantum hello is answered in any segments and records",
        arguments: [
            ValidatorClient.Cut.none, .segments(1_000), .segments(100), .segments(7), .segments(1), .records(500),
            .records(1), .both(records: 3, segments: 11), .both(records: 200, segments: 1_400),
        ]
    )
    func cut(_ cut: ValidatorClient.Cut) async throws {
        try await TestGateway.with(loops: 1) { gateway in
            try answer("app.test", at: gateway)
            let outcome = try await ValidatorClient.validate(
                gateway.process.httpsAddress,
                serverName: "app.test",
                cut: cut
            )
            #expect(outcome.isComplete && outcome.isClosed && !outcome.hasFailed)
            #expect(outcome.negotiated == "acme-tls/1")
            #expect(outcome.received.isEmpty)
        }
    }

    @Test("8 concurrent validators are answered, and clients between them are served")
    func together() async throws {
        try await TestGateway.with { gateway in
            try answer("app.test", at: gateway)
            let agent = try await TestAgent.attach(to: gateway) { $0.answer(200, "ok") }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        let outcome = try await ValidatorClient.validate(
                            gateway.process.httpsAddress,
                            serverName: "app.test"
                        )
                        #expect(outcome.negotiated == "acme-tls/1")
                        let client = try await TestClient.https(gateway)
                        let response = try await client.exchange("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
                        #expect(response.status == 200)
                        await client.close()
                    }
                }
                try await group.waitForAll()
            }
            #expect(agent.requests.count == 8)
            #expect(try await results(gateway, .answered) == 8)
        }
    }

    // MARK: Ordinary clients

    @Test("A hello that offers acme-tls/1 among others is not a validation")
    func mixed() async throws {
        try await TestGateway.with(loops: 1) { gateway in
            try answer("app.test", at: gateway)
            let result = try await ExternalProgram.run([
                "openssl", "s_client", "-connect", "127.0.0.1:\(port(gateway))", "-alpn", "acme-tls/1,http/1.1",
                "-servername", "app.test",
            ])
            #expect(result.output.contains("ALPN protocol: http/1.1"), "\(result.output)")
            #expect(result.output.contains("CN = HopGate development"))
            #expect(try await results(gateway, .answered) == 0)
        }
    }

    @Test("acme-tls/1 is not negotiated without a challenge or after its removal")
    func over() async throws {
        try await TestGateway.with(loops: 1) { gateway in
            for isOver in [false, true] {
                if isOver {
                    try answer("app.test", at: gateway)
                    #expect(try await metric("tls_alpn_challenges_pending", at: gateway) == 1)
                    _ = gateway.process.challenges.replace(with: [])
                }
                let result = try await ExternalProgram.run([
                    "openssl", "s_client", "-connect", "127.0.0.1:\(port(gateway))", "-alpn", "acme-tls/1",
                    "-servername", "app.test",
                ])
                #expect(result.output.contains("No ALPN negotiated"), "\(result.output)")
                #expect(!result.output.contains("ACME challenge"))
            }
        }
    }

    @Test("Plain HTTP, garbage and a truncated hello on the TLS port fail as they do without a challenge")
    func notTLS() async throws {
        let inputs = [
            Array("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n".utf8), [UInt8](repeating: 0xFF, count: 20_000),
            [22, 3, 1, 0, 4, 1, 0xFF, 0xFF, 0xFF], TestHello.record([1, 0, 0, 2, 3, 3]),
        ]
        func answers(isPending: Bool) async throws -> [[UInt8]] {
            var all: [[UInt8]] = []
            try await TestGateway.with(loops: 1) { gateway in
                if isPending { try answer("app.test", at: gateway) }
                for input in inputs {
                    let client = try await TestClient.connect(to: gateway.process.httpsAddress, serverName: nil)
                    client.send(ByteBuffer(bytes: input))
                    try await client.waitForClose()
                    all.append(client.received)
                }
                let client = try await TestClient.connect(to: gateway.process.httpsAddress, serverName: nil)
                try await client.send("\u{16}\u{03}")
                await client.close()
                try await eventually("\(inputs.count + 1) failed handshakes") {
                    try await metric("tls_handshake_failures_total", at: gateway) == inputs.count + 1
                }
            }
            return all
        }
        let (without, with) = (try await answers(isPending: false), try await answers(isPending: true))
        #expect(with == without)
    }

    @Test("The handshake timeout closes a connection that sends its hello slowly")
    func slow() async throws {
        try await TestGateway.with(loops: 1, { $0.timeouts.tlsHandshake = .milliseconds(300) }) { gateway in
            try answer("app.test", at: gateway)
            let silent = try await TestClient.connect(to: gateway.process.httpsAddress, serverName: nil)
            let dripping = try await TestClient.connect(to: gateway.process.httpsAddress, serverName: nil)
            for byte in TestHello().bytes.prefix(20) {
                dripping.send(ByteBuffer(bytes: [byte]))
            }
            try await silent.waitForClose()
            try await dripping.waitForClose()
        }
    }
}
