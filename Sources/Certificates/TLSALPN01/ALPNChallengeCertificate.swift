package import ACME
import Crypto
package import FoundationEssentials
import SwiftASN1
import X509

/// The certificate that responds to a TLS-ALPN-01 challenge: self-signed, for exactly one name, with the digest of the
/// key authorization in a critical extension, so that only validators accept it (RFC 8737 §3). Its key is not used
/// elsewhere.
package struct ALPNChallengeCertificate: Sendable {
    /// The protocol that a validator offers as the only one (RFC 8737 §4).
    package static let applicationProtocol = "acme-tls/1"
    /// The time by which it is backdated, since clocks of validators may be behind.
    static let backdating: TimeInterval = 86_400
    /// The lifetime from now on. Names are validated within minutes; a challenge that lasts longer gets a new
    /// certificate.
    static let lifetime: TimeInterval = 2 * 86_400
    /// The object identifier id-pe-acmeIdentifier (RFC 8737 §3).
    static let acmeIdentifier: ASN1ObjectIdentifier = [1, 3, 6, 1, 5, 5, 7, 1, 31]

    /// The DER encoding of the certificate.
    package let certificate: [UInt8]
    /// The P-256 key in PKCS #8 DER.
    package let privateKey: [UInt8]

    /// Creates a key and a certificate, which takes about 100 µs.
    ///
    /// - Parameter now: The wall clock.
    package static func make(
        _ challenge: ChallengeTask,
        now: Date = Date()
    ) throws(CertificatesError) -> ALPNChallengeCertificate {
        do {
            let secret = P256.Signing.PrivateKey()
            let key = Certificate.PrivateKey(secret)
            let name = try DistinguishedName {
                OrganizationName("HopGate")
                CommonName("ACME challenge")
            }
            var authorization = DER.Serializer()
            try authorization.serialize(ASN1OctetString(contentBytes: challenge.digest[...]))
            let certificate = try Certificate(
                version: .v3,
                serialNumber: .random(),
                publicKey: key.publicKey,
                notValidBefore: now - backdating,
                notValidAfter: now + lifetime,
                issuer: name,
                subject: name,
                extensions: Certificate.Extensions {
                    Critical(BasicConstraints.notCertificateAuthority)
                    Critical(KeyUsage(digitalSignature: true))
                    try ExtendedKeyUsage([.serverAuth])
                    SubjectAlternativeNames([challenge.name.generalName])
                    Certificate.Extension(
                        oid: acmeIdentifier,
                        critical: true,
                        value: authorization.serializedBytes[...]
                    )
                },
                issuerPrivateKey: key
            )
            return ALPNChallengeCertificate(
                certificate: try certificate.serializeAsPEM().derBytes,
                privateKey: Array(secret.derRepresentation)
            )
        } catch {
            throw CertificatesError(
                .issuance,
                challenge.name.description,
                "the certificate for its TLS-ALPN-01 challenge could not be made: \(error)"
            )
        }
    }
}
