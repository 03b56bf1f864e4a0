import ACME
import Certificates
import Crypto
import Foundation
import SwiftASN1
import TestSupport
import Testing
import X509

@Suite("TLS-ALPN-01 challenges")
struct ALPNChallengeTests {
    private let key = AccountKey()

    private func challenge(_ name: String) throws -> ChallengeTask {
        let token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
        return ChallengeTask(.tlsALPN01, try #require(CertificateName(name)), token: token, key: key)
    }

    private func parsed(_ name: String, now: Date = Date()) throws -> Certificate {
        try Certificate(derEncoded: try ALPNChallengeCertificate.make(challenge(name), now: now).certificate)
    }

    @Test("The certificate holds exactly the one name", arguments: ["app.test", "192.0.2.7", "2001:db8::1"])
    func name(_ name: String) throws {
        let names = try #require(try parsed(name).extensions.subjectAlternativeNames)
        #expect(names.count == 1)
        switch try #require(names.first) {
        case .dnsName(let text): #expect(text == name)
        case .ipAddress(let octets): #expect(octets.bytes.count == (name.contains(":") ? 16 : 4))
        default: Issue.record("another kind of name")
        }
    }

    @Test("The digest of the key authorization is in the critical acmeIdentifier extension as an OCTET STRING")
    func identifier() throws {
        let identifier = try #require(try parsed("app.test").extensions[oid: [1, 3, 6, 1, 5, 5, 7, 1, 31]])
        #expect(identifier.critical)
        let digest = Array(SHA256.hash(data: Data(try challenge("app.test").keyAuthorization.utf8)))
        #expect(Array(identifier.value) == [0x04, 0x20] + digest)
    }

    @Test("It is signed by its own P-256 key, begins a day in the past, and lasts two days")
    func signature() throws {
        let now = Date(timeIntervalSince1970: 1_800_000_000)
        let certificate = try parsed("app.test", now: now)
        #expect(certificate.issuer == certificate.subject)
        #expect(certificate.publicKey.isValidSignature(certificate.signature, for: certificate))
        #expect(certificate.notValidBefore == now - 86_400)
        #expect(certificate.notValidAfter == now + 2 * 86_400)
        let made = try ALPNChallengeCertificate.make(challenge("app.test"), now: now)
        let key = try P256.Signing.PrivateKey(derRepresentation: made.privateKey)
        #expect(try Certificate(derEncoded: made.certificate).publicKey == Certificate.PublicKey(key.publicKey))
    }

    @Test("openssl reads it")
    func openssl() throws {
        let scratch = ScratchFolder()
        let path = scratch.write("challenge.der", try ALPNChallengeCertificate.make(challenge("app.test")).certificate)
        let printed = try ExternalProgram.runBlocking([
            "openssl", "x509", "-inform", "DER", "-in", path, "-noout", "-text",
        ])
        #expect(printed.status == 0)
        #expect(printed.output.contains("1.3.6.1.5.5.7.1.31: critical"))
        #expect(printed.output.contains("DNS:app.test\n"))
        #expect(printed.output.contains("NIST CURVE: P-256"))
    }

    @Test("A validator asks for an address by its reverse mapping")
    func serverNames() throws {
        #expect(try challenge("App.Test.").serverName == "app.test")
        #expect(try challenge("192.0.2.17").serverName == "17.2.0.192.in-addr.arpa")
        #expect(
            try challenge("2001:db8::567:89ab").serverName
                == "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        )
    }
}
