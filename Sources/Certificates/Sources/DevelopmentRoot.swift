import Crypto
import Formats
import FoundationEssentials
package import Store
import SwiftASN1
import X509

/// The root of the development CA: made once for a store, kept for ten years, trusted by nobody but those who copy it.
///
/// It stands in the store as the one generation of `certs/development-ca`, so all replicas have the same.
package struct DevelopmentRoot: Sendable {
    static let lifetime: TimeInterval = 3_650 * 86_400
    /// Clocks of other machines may be behind ours.
    static let backdating: TimeInterval = 86_400
    static let origin = "development-ca"

    /// The certificate alone, to be handed to browsers and agents.
    package var certificatePEM: [UInt8] { pair.chainPEM }
    /// SHA-256 of the certificate's DER, 64 hexadecimal digits in lower case.
    package var fingerprint: String { Hex.string(certificateSHA256) }
    package var certificateSHA256: [UInt8] { pair.leafSHA256 }
    /// The form in which agents pin it.
    package var pin: String { "sha256:\(fingerprint)" }
    /// The file to hand to clients; nil where the store is no folder.
    package let path: String?
    package let generation: Generation

    /// Certificate and key.
    let pair: ServerCertificate
    let document: PEMDocument
    let key: Certificate.PrivateKey
    var certificate: Certificate { pair.leaf }

    init(_ pair: ServerCertificate, generation: Generation, path: String?) throws(CertificatesError) {
        do {
            document = try PEMDocument(pemString: String(decoding: pair.chainPEM, as: UTF8.self))
            key = try Certificate.PrivateKey(pemEncoded: String(decoding: pair.keyPEM, as: UTF8.self))
        } catch {
            throw CertificatesError(.malformed, pair.origin, "the development root cannot be used: \(error)")
        }
        self.pair = pair
        self.generation = generation
        self.path = path
    }

    /// A new key and its certificate.
    static func issue(now: Date) throws(CertificatesError) -> ServerCertificate {
        do {
            let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
            // A part that differs from root to root: trust stores find certificates by this name.
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
                signatureAlgorithm: .ecdsaWithSHA256,
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
