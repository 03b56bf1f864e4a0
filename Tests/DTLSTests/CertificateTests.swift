import DTLS
import TestSupport
import Testing

@Suite("Certificates")
struct CertificateTests {
    private func failure(
        server: TestCertificate = TestPKI.server,
        trust: DTLSTrust,
        name: String? = "localhost"
    ) throws -> DTLSError.Code? {
        let pair = try Pair(server: .testServer(server), client: .testClient(trust: trust), serverName: name).settle()
        if let failure = pair.client.failure {
            #expect(pair.client.state == .closed)
            #expect(!failure.message.isEmpty)
            // An alert reports it to the server.
            #expect(pair.server?.state == .closed)
            guard case .peerAlert = pair.server?.failure?.code else {
                Issue.record("the server saw \(String(describing: pair.server?.failure))")
                return failure.code
            }
            return failure.code
        }
        #expect(pair.client.state == .established)
        #expect(try pair.exchange())
        return nil
    }

    private let folder = ScratchFolder()
    private var root: DTLSTrust { .caPEM(TestAuthority.shared.pem) }

    @Test("An authority that is not trusted is refused")
    func unknownAuthority() throws {
        #expect(try failure(trust: .caPEM(TestAuthority.stranger.pem)) == .unknownAuthority)
        #expect(try failure(trust: .systemRoots) == .unknownAuthority)
    }

    @Test("Another name or address is refused", arguments: ["example.test", "wild.test", "a.b.wild.test", "127.0.0.2"])
    func wrongName(name: String) throws {
        #expect(try failure(trust: root, name: name) == .nameMismatch)
    }

    @Test(
        "Names and addresses of the certificate are accepted",
        arguments: ["localhost", "LOCALHOST", "x.wild.test", "::1"]
    )
    func rightName(name: String) throws {
        #expect(try failure(trust: root, name: name) == nil)
    }

    @Test("A certificate outside its dates is refused")
    func dates() throws {
        #expect(try failure(server: TestPKI.expired, trust: root) == .certificateExpired)
        #expect(try failure(server: TestPKI.future, trust: root) == .certificateNotYetValid)
    }

    @Test(
        "A leaf with a key of any kind is accepted, alone or by server name",
        arguments: TestCertificate.KeyKind.allCases
    )
    func keyKinds(_ kind: TestCertificate.KeyKind) throws {
        let leaf = try TestAuthority.shared.issue(["localhost"], key: kind)
        #expect(try failure(server: leaf, trust: root) == nil)
        #expect(try failure(server: leaf, trust: .pin(sha256: leaf.sha256), name: nil) == nil)
        let context = try DTLSContext.testServer(leaf)
        try context.selfTest(leafSHA256: leaf.sha256, alpn: "hop/1")
        for other in [TestPKI.second, try TestAuthority.shared.issue(["x.test"], key: .ed25519)] {
            let pair = try Pair(server: .testServer(other) { $0 == "localhost" ? context : nil }).settle()
            #expect(pair.client.state == .established && pair.client.failure == nil)
            #expect(try pair.exchange())
        }
    }

    @Test("The self-test rejects a leaf with which no client connects")
    func selfTest() throws {
        let context = try DTLSContext.testServer(TestPKI.withoutSignatures)
        let error = #expect(throws: DTLSError.self) {
            try context.selfTest(leafSHA256: TestPKI.withoutSignatures.sha256, alpn: "hop/1")
        }
        #expect(error?.code == .noCommonParameters)
        let wrong = #expect(throws: DTLSError.self) {
            try DTLSContext.testServer().selfTest(leafSHA256: TestPKI.second.sha256, alpn: "hop/1")
        }
        #expect(wrong?.code == .pinMismatch)
    }

    @Test("An authority from a file, and an intermediate alone, are enough")
    func files() throws {
        #expect(try failure(trust: .caFile(path: folder.write("root.pem", TestAuthority.shared.pem))) == nil)
        #expect(try failure(server: TestPKI.deep, trust: root) == nil)
        let intermediate = folder.write("intermediate.pem", TestPKI.intermediate.pem)
        #expect(try failure(server: TestPKI.deep, trust: .caFile(path: intermediate)) == nil)
    }

    @Test("The pinned leaf or its key is the identity, irrespective of name and dates")
    func pinnedLeaf() throws {
        for identity in [TestPKI.server, TestPKI.expired] {
            let key = identity.publicKeySHA256
            #expect(try failure(server: identity, trust: .pin(sha256: identity.sha256), name: nil) == nil)
            #expect(try failure(server: identity, trust: .pin(sha256: key), name: "example.test") == nil)
            #expect(try failure(server: identity, trust: .pin(sha256: key), name: "127.0.0.2") == nil)
        }
    }

    @Test("A pinned authority of the chain is an anchor: names and dates count")
    func pinnedAuthority() throws {
        let pin = DTLSTrust.pin(sha256: TestAuthority.shared.sha256)
        #expect(try failure(server: TestPKI.deep, trust: pin) == nil)
        #expect(try failure(server: TestPKI.deep, trust: pin, name: "127.0.0.1") == nil)
        #expect(try failure(server: TestPKI.deep, trust: pin, name: "example.test") == .nameMismatch)
    }

    @Test("A wrong pin is refused, also when the pinned authority is presented beside a foreign leaf")
    func wrongPin() throws {
        #expect(try failure(trust: .pin(sha256: [UInt8](repeating: 7, count: 32))) == .pinMismatch)
        let pin = DTLSTrust.pin(sha256: TestAuthority.stranger.sha256)
        var forged = TestPKI.server
        forged.chain += String(decoding: TestAuthority.stranger.pem, as: UTF8.self)
        #expect(try failure(server: forged, trust: pin) == .pinMismatch)
    }

    @Test("There is no verification without a name or a pin")
    func noName() throws {
        #expect(throws: DTLSError.self) { try Pair(serverName: nil) }
        #expect(throws: DTLSError.self) { try Pair(serverName: "") }
    }

    @Test("Files that cannot be used are configuration errors")
    func configuration() throws {
        let good = TestPKI.server
        func server(_ chain: [UInt8], _ key: [UInt8], _ alpn: [String] = ["hop/1"]) throws(DTLSError) {
            _ = try DTLSContext.server(
                DTLSServerConfiguration(certificateChainPEM: chain, privateKeyPEM: key, alpn: alpn)
            )
        }
        func client(_ trust: DTLSTrust) throws(DTLSError) {
            _ = try DTLSContext.client(DTLSClientConfiguration(trust: trust, alpn: ["hop/1"]))
        }
        func code(_ body: () throws(DTLSError) -> Void) -> DTLSError.Code? {
            do throws(DTLSError) { try body() } catch { return error.code }
            return nil
        }
        #expect(code { () throws(DTLSError) in try server([], good.keyBytes) } == .configuration)
        #expect(code { () throws(DTLSError) in try server(Array("nonsense".utf8), good.keyBytes) } == .configuration)
        #expect(
            code { () throws(DTLSError) in try server(Array(good.chainBytes.dropLast(60)), good.keyBytes) }
                == .configuration
        )
        #expect(code { () throws(DTLSError) in try server(good.chainBytes, TestPKI.second.keyBytes) } == .configuration)
        #expect(code { () throws(DTLSError) in try server(good.chainBytes, []) } == .configuration)
        #expect(code { () throws(DTLSError) in try server(good.chainBytes, good.keyBytes, []) } == .configuration)
        #expect(code { () throws(DTLSError) in try server(good.chainBytes, good.keyBytes, [""]) } == .configuration)
        #expect(code { () throws(DTLSError) in try server(good.chainBytes, good.keyBytes) } == nil)
        #expect(code { () throws(DTLSError) in try client(.caPEM([])) } == .configuration)
        #expect(code { () throws(DTLSError) in try client(.caFile(path: "/does/not/exist")) } == .configuration)
        #expect(code { () throws(DTLSError) in try client(.pin(sha256: [1, 2, 3])) } == .configuration)
    }
}
