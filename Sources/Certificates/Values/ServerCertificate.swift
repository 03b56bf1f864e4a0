package import ACME
import Crypto
import FoundationEssentials
import SwiftASN1
import Synchronization
import X509

/// A certificate chain with its matching private key; immutable.
///
/// The bytes are in the form that TLS libraries take: PEM blocks only, leaf first. Dates are not checked: an expired
/// certificate is still better than none, and clocks differ between machines.
package final class ServerCertificate: Sendable {
    /// The chain as PEM, leaf first.
    package let chainPEM: [UInt8]
    /// The leaf's private key as one PEM block.
    package let keyPEM: [UInt8]
    /// The names of the leaf, in the order of the certificate.
    package let names: [CertificateName]
    /// The SHA-256 of the leaf's DER encoding, which identifies the certificate.
    package let leafSHA256: [UInt8]
    /// The validity of the leaf, in seconds since 1970.
    package let notValidBefore: Int64
    package let notValidAfter: Int64
    /// The path of the certificate file, or the key in the store.
    package let origin: String

    /// The parsed chain, leaf first.
    let chain: [Certificate]
    var leaf: Certificate { chain[0] }

    private let served = Mutex<(any Sendable)?>(nil)

    /// - Parameters:
    ///   - chain: Text with at least one CERTIFICATE block, leaf first. Other blocks and text between blocks are
    ///     ignored.
    ///   - key: Text with one unencrypted private key (PKCS #8, SEC 1 or PKCS #1).
    package convenience init(
        chain: [UInt8],
        key: [UInt8],
        chainPath: String,
        keyPath: String
    ) throws(CertificatesError) {
        let documents = try Self.certificateBlocks(chain, chainPath)
        var certificates: [Certificate] = []
        for (index, document) in documents.enumerated() {
            let certificate: Certificate
            do {
                certificate = try Certificate(pemDocument: document)
            } catch let error as CertificateError where error.code == .unsupportedPublicKeyAlgorithm {
                let reason = "the key of certificate \(index + 1) cannot be served; a certificate needs"
                throw CertificatesError(.unsupported, chainPath, "\(reason) \(UnusableFormat.keyKinds)")
            } catch let error as CertificateError where error.code == .unsupportedSignatureAlgorithm {
                let reason = "the signature of certificate \(index + 1) is of an unsupported kind"
                let remedy = WeakAlgorithm.signatureRemedy(at: index)
                throw CertificatesError(.unsupported, chainPath, "\(reason); \(remedy)")
            } catch {
                if let reason = WeakAlgorithm.reason(rsaKeyIn: document, at: index) {
                    throw CertificatesError(.unsupported, chainPath, "the key of certificate \(index + 1) \(reason)")
                }
                throw CertificatesError(.malformed, chainPath, "certificate \(index + 1) cannot be parsed: \(error)")
            }
            if let reason = WeakAlgorithm.reason(signatureOf: certificate, at: index) {
                throw CertificatesError(.unsupported, chainPath, "certificate \(index + 1) \(reason)")
            }
            certificates.append(certificate)
        }
        let keyDocument = try Self.keyBlock(key, keyPath)
        let privateKey: Certificate.PrivateKey
        do {
            privateKey = try Certificate.PrivateKey(pemDocument: keyDocument)
        } catch {
            if let reason = WeakAlgorithm.reason(rsaKeyIn: keyDocument) {
                throw CertificatesError(.unsupported, keyPath, "the private key \(reason)")
            }
            let remedy = "a certificate needs \(UnusableFormat.keyKinds)"
            throw CertificatesError(.unsupported, keyPath, "the private key cannot be used (\(error)); \(remedy)")
        }
        let place = certificates.firstIndex { $0.publicKey == privateKey.publicKey }
        guard place == 0 else {
            throw CertificatesError(
                .keyMismatch,
                keyPath,
                place.map { "the key belongs to certificate \($0 + 1) of \(chainPath); the leaf must come first there" }
                    ?? "the key does not belong to the certificate in \(chainPath); give the pair that was issued together"
            )
        }
        self.init(documents: documents, chain: certificates, key: keyDocument, origin: chainPath)
    }

    /// - Parameter documents: The PEM blocks of the chain, in its order.
    init(documents: [PEMDocument], chain: [Certificate], key: PEMDocument, origin: String) {
        self.chainPEM = documents.flatMap { Array(($0.pemString + "\n").utf8) }
        self.keyPEM = Array((key.pemString + "\n").utf8)
        self.names = Self.names(of: chain[0])
        self.leafSHA256 = Array(SHA256.hash(data: documents[0].derBytes))
        self.notValidBefore = Int64(chain[0].notValidBefore.timeIntervalSince1970)
        self.notValidAfter = Int64(chain[0].notValidAfter.timeIntervalSince1970)
        self.origin = origin
        self.chain = chain
    }

    /// The issuer's name in the form `CN=R11,O=Let's Encrypt,C=US`.
    package var issuer: String { "\(leaf.issuer)" }

    /// Checks that each certificate of the chain is signed by the next one. Some clients reject chains in another
    /// order.
    package func requireOrder() throws(CertificatesError) {
        for (index, certificate) in chain.enumerated().dropLast() {
            let above = chain[index + 1]
            guard certificate.issuer == above.subject,
                above.publicKey.isValidSignature(certificate.signature, for: certificate)
            else {
                throw CertificatesError(
                    .chainOrder,
                    origin,
                    """
                    certificate \(index + 1) is not signed by certificate \(index + 2); put the leaf first, then each \
                    issuer behind what it issued, and leave out what does not belong there
                    """
                )
            }
        }
    }

    /// Returns the form that the TLS libraries serve. The first call makes it, and the certificate keeps it.
    package func served<Form: Sendable>(_ make: () throws -> Form) rethrows -> Form {
        try served.withLock { kept in
            if let form = kept as? Form { return form }
            let form = try make()
            kept = form
            return form
        }
    }

    /// Whether the other certificate is the same in every byte that is served.
    func isSame(as other: ServerCertificate) -> Bool {
        chainPEM == other.chainPEM && keyPEM == other.keyPEM
    }

    /// The names in the subject alternative name extension. The common name is ignored (RFC 9525 §6.3).
    private static func names(of leaf: Certificate) -> [CertificateName] {
        guard let names = try? leaf.extensions.subjectAlternativeNames else { return [] }
        return names.compactMap { CertificateName($0) }
    }

    /// Returns all blocks of a PEM file.
    private static func blocks(_ bytes: [UInt8], _ path: String) throws(CertificatesError) -> [PEMDocument] {
        let reason: String
        if let text = String(validating: bytes, as: UTF8.self) {
            do {
                return try PEMDocument.parseMultiple(pemString: text)
            } catch {
                reason = "is not a PEM file: \(error)"
            }
        } else {
            reason = "is not text; a PEM file is needed"
        }
        throw unusable(bytes, path, otherwise: reason)
    }

    private static func certificateBlocks(_ bytes: [UInt8], _ path: String) throws(CertificatesError) -> [PEMDocument] {
        let all = try blocks(bytes, path)
        let documents = all.filter { $0.discriminator.hasSuffix("CERTIFICATE") }
        let what = "holds no certificate (-----BEGIN CERTIFICATE-----)"
        if documents.isEmpty, all.contains(where: { $0.discriminator.hasSuffix("PRIVATE KEY") }) {
            throw CertificatesError(.malformed, path, "\(what), but a private key; are the two files exchanged?")
        }
        guard !documents.isEmpty, documents.allSatisfy({ $0.discriminator == "CERTIFICATE" }) else {
            throw unusable(bytes, path, otherwise: what)
        }
        return documents
    }

    private static func keyBlock(_ bytes: [UInt8], _ path: String) throws(CertificatesError) -> PEMDocument {
        let documents = try blocks(bytes, path).filter { $0.discriminator.hasSuffix("PRIVATE KEY") }
        guard let first = documents.first, ["", "EC ", "RSA "].contains(first.discriminator.dropLast(11)) else {
            throw unusable(bytes, path, otherwise: "holds no private key (-----BEGIN PRIVATE KEY-----)")
        }
        guard documents.count == 1 else {
            throw CertificatesError(.malformed, path, "holds \(documents.count) private keys; exactly one is needed")
        }
        return first
    }

    /// Returns the error of a file that cannot be read: of its format if that is known, or else for the given reason.
    private static func unusable(_ bytes: [UInt8], _ path: String, otherwise reason: String) -> CertificatesError {
        guard let known = UnusableFormat.reason(bytes, path: path) else {
            return CertificatesError(.malformed, path, reason)
        }
        return CertificatesError(.unsupported, path, known)
    }
}

/// The properties that a certificate shares with all others that an authority issues in the same way: the kind of the
/// key, the algorithm of the signature, the usages and the chain. TLS libraries accept all certificates of one kind or
/// none.
package struct CertificateKind: Hashable, Sendable {
    private let key: String
    private let keySize: Int
    private let signature: Certificate.SignatureAlgorithm
    private let extensions: [Certificate.Extension]
    private let hasNames: Bool
    private let issuers: [Certificate]

    /// The extensions that differ between certificates of one kind: names, key identifiers, places and receipts. Their
    /// form counts nevertheless, since a library refuses a certificate with a malformed one.
    private static let individual: Set<ASN1ObjectIdentifier> = [
        .X509ExtensionID.subjectAlternativeName, .X509ExtensionID.subjectKeyIdentifier,
        .X509ExtensionID.authorityInformationAccess,
        [2, 5, 29, 31],  // CRL distribution points (RFC 5280 §4.2.1.13)
        [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2],  // signed certificate timestamps (RFC 6962 §3.3)
    ]

    package init(_ certificate: ServerCertificate) {
        let leaf = certificate.leaf
        key = "\(leaf.publicKey)"
        keySize = leaf.publicKey.subjectPublicKeyInfoBytes.count
        signature = leaf.signatureAlgorithm
        extensions = leaf.extensions.map { part in
            guard Self.individual.contains(part.oid) else { return part }
            let isOfNames = part.oid == .X509ExtensionID.subjectAlternativeName
            let form = isOfNames ? [] : part.value.prefix(2) + [UInt8(truncatingIfNeeded: part.value.count)]
            return Certificate.Extension(oid: part.oid, critical: part.critical, value: ArraySlice(form))
        }
        hasNames = (try? leaf.extensions.subjectAlternativeNames) != nil
        issuers = Array(certificate.chain.dropFirst())
    }
}

extension CertificateFacts {
    package init(_ certificate: ServerCertificate) {
        self.init(certificate.leaf)
    }
}

/// A check whether the TLS libraries can serve a certificate. It may take milliseconds, and is never called on an event
/// loop.
package typealias CertificateCheck = @Sendable (ServerCertificate) throws -> Void

extension ServerCertificate {
    /// - Throws: `unsupported` if the check rejects the certificate.
    package func require(_ check: CertificateCheck) throws(CertificatesError) {
        do {
            try check(self)
        } catch {
            throw CertificatesError(.unsupported, origin, "the TLS library does not accept it: \(error)")
        }
    }
}

extension Certificate.SerialNumber {
    /// Returns a serial number of 16 random bytes, positive and not zero (RFC 5280 §4.1.2.2).
    static func random() -> Self {
        var generator = SystemRandomNumberGenerator()
        var bytes = (0..<16).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        bytes[0] = bytes[0] & 0x7F | 0x40
        return Self(bytes: bytes)
    }
}
