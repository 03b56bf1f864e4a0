import Crypto
import CryptoExtras
import SwiftASN1
import X509

/// A certificate authority whose key exists only in this process.
package struct TestAuthority: Sendable {
    /// The root that tests trust.
    package static let shared = try! TestAuthority("Test root")
    /// A root that issues none of the tested certificates.
    package static let stranger = try! TestAuthority("Stranger root")

    private let name: DistinguishedName
    private let key: Certificate.PrivateKey
    private let certificate: Certificate
    /// The authority's certificate as the bytes of a PEM file.
    package let pem: [UInt8]
    /// The SHA-256 of the authority's certificate in DER.
    package let sha256: [UInt8]

    /// Creates a root.
    package init(_ commonName: String) throws { try self.init(commonName, issuer: nil) }

    /// Creates an intermediate authority below this one.
    package func intermediate(_ commonName: String) throws -> TestAuthority {
        try TestAuthority(commonName, issuer: self)
    }

    private init(_ commonName: String, issuer: TestAuthority?) throws {
        name = try DistinguishedName { CommonName(commonName) }
        key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        certificate = try Certificate(
            subject: name,
            key: key.publicKey,
            issuer: issuer?.name ?? name,
            issuerKey: issuer?.key ?? key,
            hours: -24...24,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
                Critical(KeyUsage(keyCertSign: true, cRLSign: true))
            }
        )
        let document = try certificate.serializeAsPEM()
        pem = Array((document.pemString + "\n").utf8)
        sha256 = Array(SHA256.hash(data: document.derBytes))
    }

    /// Issues the certificate of a server.
    ///
    /// - Parameters:
    ///   - names: The subject alternative names: host names and IP addresses. `DNS:` before an address makes it a host
    ///     name.
    ///   - keyKind: The kind of the server's key.
    ///   - signs: Whether the key usage permits signatures, which key exchanges need.
    ///   - hours: The validity in hours from now; negative for the past.
    ///   - authorities: The authorities whose certificates follow in the chain.
    package func issue(
        _ names: [String] = ["localhost", "127.0.0.1", "::1"],
        key keyKind: TestCertificate.KeyKind = .p256,
        signs: Bool = true,
        hours: ClosedRange<Double> = -1...24,
        sending authorities: [TestAuthority] = []
    ) throws -> TestCertificate {
        let leafKey =
            switch keyKind {
            case .p256: Certificate.PrivateKey(P256.Signing.PrivateKey())
            case .p384: Certificate.PrivateKey(P384.Signing.PrivateKey())
            case .p521: Certificate.PrivateKey(P521.Signing.PrivateKey())
            case .ed25519: Certificate.PrivateKey(Curve25519.Signing.PrivateKey())
            case .rsa2048: Certificate.PrivateKey(try _RSA.Signing.PrivateKey(keySize: .bits2048))
            case .rsa3072: Certificate.PrivateKey(try _RSA.Signing.PrivateKey(keySize: .bits3072))
            case .rsa4096: Certificate.PrivateKey(try _RSA.Signing.PrivateKey(keySize: .bits4096))
            }
        let leaf = try Certificate(
            subject: DistinguishedName { CommonName("server") },
            key: leafKey.publicKey,
            issuer: name,
            issuerKey: key,
            hours: hours,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.notCertificateAuthority)
                try TestCertificate.alternativeNames(names)
                try ExtendedKeyUsage([.serverAuth, .clientAuth])
                if !signs { Critical(KeyUsage(keyAgreement: true)) }
            }
        )
        return try TestCertificate(names, leaf, key: leafKey, sending: authorities.map(\.certificate))
    }
}

extension TestCertificate {
    /// A certificate of ``TestAuthority/shared`` for localhost, 127.0.0.1 and ::1.
    package static let localhost = try! TestAuthority.shared.issue()
}
