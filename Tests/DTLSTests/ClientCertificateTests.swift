import DTLS
import NIOCore
import TestSupport
import Testing

@Suite("Certificates of clients")
struct ClientCertificateTests {
    private static let authority = TestAuthority.shared

    private func server() throws -> DTLSContext { try .testServer(clientTrust: TestAuthority.shared.pem) }

    private func client(_ certificate: TestCertificate?) throws -> DTLSContext {
        try .testClient(presenting: certificate)
    }

    @Test("A server that requires a certificate reads the URI of the one that its client presents")
    func accepted() throws {
        let certificate = try Self.authority.issue(["DNS:peer", "URI:hopgate:01ARZ3NDEKTSV4RRFFQ69G5FAV"])
        let pair = try Pair(server: server(), client: client(certificate)).settle()
        let server = try #require(pair.server)
        #expect(pair.client.state == .established && server.state == .established)
        #expect(server.peerURI == "hopgate:01ARZ3NDEKTSV4RRFFQ69G5FAV")
        #expect(server.peerLeafSHA256 == certificate.sha256 && pair.client.peerURI == nil)
        #expect(try pair.exchange())
    }

    @Test("It refuses a client without one, and those of others: self-signed, expired, of an intermediate, too large")
    func refused() throws {
        let large = try Self.authority.issue((0..<60).map { "DNS:host-\($0).test" })
        let others: [(TestCertificate?, DTLSError.Code?)] = [
            (nil, .noCommonParameters), (try TestCertificate(["DNS:peer"]), .unknownAuthority),
            (TestPKI.expired, .certificateExpired), (TestPKI.deep, nil), (large, nil),
        ]
        for (certificate, code) in others {
            let pair = try Pair(server: server(), client: client(certificate)).settle()
            let server = try #require(pair.server)
            #expect(server.state != .established && pair.client.state != .established, "\(String(describing: code))")
            if let code, certificate != nil { #expect(server.failure?.code == code) }
        }
    }

    @Test("The URI counts only if it is the only one")
    func severalURIs() throws {
        let certificate = try Self.authority.issue(["URI:hopgate:one", "URI:hopgate:two"])
        let pair = try Pair(server: server(), client: client(certificate)).settle()
        #expect(pair.server?.state == .established && pair.server?.peerURI == nil)
    }

    @Test("A server that requires none neither asks for one nor reads one")
    func notRequired() throws {
        let certificate = try Self.authority.issue(["URI:hopgate:one"])
        let pair = try Pair(client: client(certificate)).settle()
        #expect(pair.server?.state == .established && pair.server?.peerLeafSHA256 == nil && pair.server?.peerURI == nil)
    }
}
