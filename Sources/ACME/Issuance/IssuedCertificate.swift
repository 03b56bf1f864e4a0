import Crypto
import Formats
import FoundationEssentials
package import SwiftASN1
package import X509

/// The result of an order: a checked certificate chain with its private key, ready to be published. ``key`` is secret.
package struct IssuedCertificate: Equatable, Sendable {
    /// The PEM blocks of the chain, leaf first.
    package let documents: [PEMDocument]
    package let chain: [Certificate]
    /// The leaf's private key (PKCS #8).
    package let key: PEMDocument
    package let facts: CertificateFacts

    init(_ chain: IssuedChain, key: LeafKey) {
        documents = chain.documents
        self.chain = chain.certificates
        self.key = PEMDocument(type: "PRIVATE KEY", derBytes: Array(key.key.derRepresentation))
        facts = CertificateFacts(chain.leaf)
    }
}

extension IssuedCertificate: CustomStringConvertible {
    /// A summary without the key.
    package var description: String {
        "certificate \(facts.id) for \(facts.names.map(\.description).joined(separator: ", ")) until \(facts.notAfter)"
    }
}

/// A certificate chain as the CA sent it (`application/pem-certificate-chain`, RFC 8555 §9.1), parsed but not yet
/// verified.
struct IssuedChain {
    let documents: [PEMDocument]
    let certificates: [Certificate]

    var leaf: Certificate { certificates[0] }

    init(_ bytes: [UInt8]) throws(ACMEMessageError) {
        guard bytes.count <= ACMELimits.chain else {
            throw ACMEMessageError("certificate", "has \(bytes.count) bytes; at most \(ACMELimits.chain) are read")
        }
        guard let text = String(validating: bytes, as: UTF8.self), text.utf8.allSatisfy({ $0 < 0x80 }),
            let documents = try? PEMDocument.parseMultiple(pemString: text), !documents.isEmpty
        else { throw ACMEMessageError("certificate", "is not a chain of PEM blocks") }
        guard documents.count <= ACMELimits.chainLength else {
            throw ACMEMessageError(
                "certificate",
                "has \(documents.count) blocks; at most \(ACMELimits.chainLength) are allowed"
            )
        }
        var certificates: [Certificate] = []
        for (index, document) in documents.enumerated() {
            guard document.discriminator == "CERTIFICATE", let certificate = try? Certificate(pemDocument: document)
            else { throw ACMEMessageError("certificate[\(index)]", "is not a certificate") }
            certificates.append(certificate)
        }
        self.documents = documents
        self.certificates = certificates
    }

    /// Whether the issuer of one of the certificates has this common name, such as `ISRG Root X1`.
    func isIssued(by commonName: String) -> Bool {
        certificates.contains { certificate in
            certificate.issuer.contains { relative in
                relative.contains { attribute in
                    attribute.type == .RDNAttributeType.commonName && "\(attribute.value)" == commonName
                }
            }
        }
    }

    /// Verifies that the leaf has our key and all names, and that each certificate is signed by the next one.
    ///
    /// - Returns: A description of the first defect, or `nil` if the chain is what was ordered.
    func defect(names: [CertificateName], key: LeafKey) -> String? {
        guard leaf.publicKey == key.publicKey else { return "the certificate is for another key than ours" }
        let covered: Set<CertificateName>
        do {
            covered = Set(try leaf.extensions.subjectAlternativeNames?.compactMap { CertificateName($0) } ?? [])
        } catch {
            return "the names of the certificate cannot be read"
        }
        let missing = names.filter { !covered.contains($0) }
        guard missing.isEmpty else {
            return "the certificate is not for \(missing.map(\.description).joined(separator: ", "))"
        }
        guard leaf.notValidBefore < leaf.notValidAfter else { return "the certificate ends before it begins" }
        for (index, pair) in zip(certificates, certificates.dropFirst()).enumerated() {
            guard pair.0.issuer == pair.1.subject, pair.1.publicKey.isValidSignature(pair.0.signature, for: pair.0)
            else { return "certificate \(index + 1) of the chain is not signed by the one behind it" }
        }
        return nil
    }
}
