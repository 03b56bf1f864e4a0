import Crypto
import SwiftASN1
import X509

/// The certificate signing request that finalises an order (PKCS #10; RFC 8555 §7.4). All names are in the subject
/// alternative name extension, with addresses as `iPAddress` entries (RFC 8738). The subject is empty, because CAs set
/// their own.
enum CertificateRequest {
    /// Creates and signs a request. Returns its DER encoding.
    static func make(_ names: [CertificateName], key: LeafKey) -> [UInt8] {
        do {
            let extensions = try Certificate.Extensions {
                SubjectAlternativeNames(names.map(\.generalName))
            }
            let request = try CertificateSigningRequest(
                version: .v1,
                subject: DistinguishedName(),
                privateKey: Certificate.PrivateKey(key.key),
                attributes: CertificateSigningRequest.Attributes([
                    .init(ExtensionRequest(extensions: extensions))
                ]),
                signatureAlgorithm: .ecdsaWithSHA256
            )
            var serializer = DER.Serializer()
            try serializer.serialize(request)
            return serializer.serializedBytes
        } catch {
            preconditionFailure("names that were checked always make a request: \(error)")
        }
    }
}

/// The private key of a certificate: P-256, a new one for each order.
package struct LeafKey: Sendable, Equatable {
    let key: P256.Signing.PrivateKey

    package init() {
        key = P256.Signing.PrivateKey()
    }

    /// Creates a key from PEM, or returns `nil` if the text is not the PEM of a P-256 key.
    package init?(pem: String) {
        guard let key = try? P256.Signing.PrivateKey(pemRepresentation: pem) else { return nil }
        self.key = key
    }

    /// The key as one PKCS #8 PEM block that ends with a line feed.
    package var pem: String { key.pemRepresentation + "\n" }

    var publicKey: Certificate.PublicKey { Certificate.PublicKey(key.publicKey) }

    package static func == (left: LeafKey, right: LeafKey) -> Bool {
        left.key.rawRepresentation == right.key.rawRepresentation
    }
}

extension LeafKey: CustomStringConvertible {
    /// A constant text, so that the key is never logged.
    package var description: String { "leaf key" }
}
