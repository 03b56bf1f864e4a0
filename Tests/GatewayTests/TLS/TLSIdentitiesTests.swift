import Certificates
import Gateway
import TestSupport
import Testing

@Suite("Check of certificates")
struct TLSIdentitiesTests {
    private func loaded(_ test: TestCertificate) throws -> ServerCertificate {
        try ServerCertificate(chain: test.chainBytes, key: test.keyBytes, chainPath: "chain.pem", keyPath: "key.pem")
    }

    @Test("A key of any kind is accepted", arguments: TestCertificate.KeyKind.allCases)
    func keyKinds(_ kind: TestCertificate.KeyKind) throws {
        try loaded(TestAuthority.shared.issue(["a.test"], key: kind)).require(TLSIdentities.check)
    }

    @Test("Certificates that an authority issues alike are of one kind with any names and keys")
    func kind() throws {
        func kind(_ names: [String], key: TestCertificate.KeyKind = .p256, signs: Bool = true) throws -> CertificateKind
        {
            CertificateKind(try loaded(TestAuthority.shared.issue(names, key: key, signs: signs)))
        }
        let first = try kind(["a.test"])
        #expect(try kind(["b.test", "*.c.test"]) == first)
        for other in TestCertificate.KeyKind.allCases where other != .p256 {
            #expect(try kind(["a.test"], key: other) != first)
        }
        #expect(try kind(["a.test"], signs: false) != first)
    }

    @Test("A certificate whose key may not sign is refused with the reason")
    func unusable() throws {
        // One that an agent can use, of the same authority, says nothing of the other.
        try loaded(TestAuthority.shared.issue(["a.test"])).require(TLSIdentities.check)
        let certificate = try loaded(TestAuthority.shared.issue(["a.test"], signs: false))
        let error = #expect(throws: CertificatesError.self) { try certificate.require(TLSIdentities.check) }
        #expect(error?.code == .unsupported)
        #expect(error?.reason.contains("does not accept it") == true)
    }
}
