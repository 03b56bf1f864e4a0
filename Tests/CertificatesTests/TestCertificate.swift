import Certificates
import Crypto
import Foundation
import SwiftASN1
import X509

/// A self-signed certificate for tests, as PEM.
struct TestCertificate {
    let names: [String]
    var chain: String
    var key: String

    init(_ names: [String], key: P256.Signing.PrivateKey = .init(), from start: Date = Date() - 60) throws {
        self.names = names
        let privateKey = Certificate.PrivateKey(key)
        let name = try DistinguishedName { CommonName("test") }
        let certificate = try Certificate(
            version: .v3,
            serialNumber: Certificate.SerialNumber(),
            publicKey: privateKey.publicKey,
            notValidBefore: start,
            notValidAfter: start + 86_400,
            issuer: name,
            subject: name,
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: Certificate.Extensions { SubjectAlternativeNames(names.map { .dnsName($0) }) },
            issuerPrivateKey: privateKey
        )
        chain = try certificate.serializeAsPEM().pemString + "\n"
        self.key = key.pemRepresentation + "\n"
    }

    func loaded() throws -> ServerCertificate {
        try ServerCertificate(
            chain: Array(chain.utf8),
            key: Array(key.utf8),
            chainPath: "chain.pem",
            keyPath: "key.pem"
        )
    }
}
