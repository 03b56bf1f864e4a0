import Crypto
import Formats
import FoundationEssentials
import Store
import SwiftASN1
import X509

/// The root of the development CA: created once for a store, valid for ten years, trusted only by clients that were
/// given a copy.
///
/// It is stored as `certs/development-ca`, so all replicas have the same one.
package struct DevelopmentRoot: Sendable {
    static let lifetime: TimeInterval = 3_650 * 86_400
    /// The time by which certificates are backdated, since clocks of other machines may be behind.
    static let backdating: TimeInterval = 86_400
    static let origin = "development-ca"

    /// The certificate alone, for browsers and agents.
    package var certificatePEM: [UInt8] { pair.chainPEM }
    /// The SHA-256 of the certificate's DER encoding: 64 lower-case hexadecimal digits.
    package var fingerprint: String { Hex.string(certificateSHA256) }
    package var certificateSHA256: [UInt8] { pair.leafSHA256 }
    /// The pin that agents are configured with.
    package var pin: String { "sha256:\(fingerprint)" }
    /// The version in the store.
    package let version: UInt64

    /// The certificate and its private key.
    let pair: ServerCertificate
    let document: PEMDocument
    let key: Certificate.PrivateKey
    var certificate: Certificate { pair.leaf }

    init(_ pair: ServerCertificate, version: UInt64) throws(CertificatesError) {
        do {
            document = try PEMDocument(pemString: String(decoding: pair.chainPEM, as: UTF8.self))
            key = try Certificate.PrivateKey(pemEncoded: String(decoding: pair.keyPEM, as: UTF8.self))
        } catch {
            throw CertificatesError(.malformed, pair.origin, "the development root cannot be used: \(error)")
        }
        self.pair = pair
        self.version = version
    }

    /// Creates a new key and its certificate.
    static func issue(now: Date) throws(CertificatesError) -> ServerCertificate {
        do {
            let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
            // A part that differs between roots, because trust stores find certificates by this name.
            let mark = Hex.string(Certificate.SerialNumber.random().bytes.prefix(4))
            let name = try DistinguishedName {
                OrganizationName("HopGate")
                CommonName("HopGate development CA \(mark)")
            }
            let certificate = try Certificate(
                version: .v3,
                serialNumber: .random(),
                publicKey: key.publicKey,
                notValidBefore: now - backdating,
                notValidAfter: now + lifetime,
                issuer: name,
                subject: name,
                extensions: Certificate.Extensions {
                    Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
                    Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                    SubjectKeyIdentifier(hash: key.publicKey)
                },
                issuerPrivateKey: key
            )
            return ServerCertificate(
                documents: [try certificate.serializeAsPEM()],
                chain: [certificate],
                key: try key.serializeAsPEM(),
                origin: CertificateSet.developmentCA.path
            )
        } catch {
            let place = CertificateSet.developmentCA.path
            throw CertificatesError(.issuance, place, "the development root could not be made: \(error)")
        }
    }
}
