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

    @Test("A certificate whose key may not sign is refused with the reason")
    func unusable() throws {
        let certificate = try loaded(TestAuthority.shared.issue(["a.test"], signs: false))
        let error = #expect(throws: CertificatesError.self) { try certificate.require(TLSIdentities.check) }
        #expect(error?.code == .unsupported)
        #expect(error?.reason.contains("does not accept it") == true)
    }
}
