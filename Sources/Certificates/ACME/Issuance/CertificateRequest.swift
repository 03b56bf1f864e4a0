import Crypto
import SwiftASN1
import X509

/// What is sent to finalize an order (PKCS #10; RFC 8555 section 7.4). All names are in the subject alternative name
/// extension, addresses as addresses (RFC 8738); the subject is empty, because CAs make their own.
enum CertificateRequest {
    /// DER.
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
