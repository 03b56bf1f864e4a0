import SwiftASN1
import X509

/// The keys and signatures of a certificate that TLS libraries refuse because they are too weak.
enum WeakAlgorithm {
    private static let leastRSABits = 2048
    private static let newKey = """
        create a key with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem, and have a \
        certificate issued for it
        """
    private static let newIssuer = "give the chain of a CA with stronger keys and signatures"
    private static let signatureKinds = "a signature with SHA-256, SHA-384 or SHA-512 (of RSA or ECDSA), or Ed25519"

    /// Returns the reason why an RSA key is too small, with the remedy, or `nil` if it is not.
    ///
    /// - Parameters:
    ///   - document: A certificate or a private key.
    ///   - index: The place of the certificate in the chain.
    static func reason(rsaKeyIn document: PEMDocument, at index: Int = 0) -> String? {
        let isKey = document.discriminator == "RSA PRIVATE KEY"
        guard let bits = rsaBits(document.derBytes[...], isKey: isKey), bits < leastRSABits else { return nil }
        let what = "is an RSA key of \(bits) bits, and at least \(leastRSABits) are needed"
        return "\(what); \(index == 0 ? newKey : newIssuer)"
    }

    /// Returns the reason why the signature of a certificate is refused, with the remedy, or `nil` if it is not. The
    /// signature of a root after the leaf is not verified.
    static func reason(signatureOf certificate: Certificate, at index: Int) -> String? {
        let isRoot = index > 0 && certificate.issuer == certificate.subject
        guard certificate.signatureAlgorithm == .sha1WithRSAEncryption, !isRoot else { return nil }
        return "is signed with SHA-1, which is no longer secure; \(signatureRemedy(at: index))"
    }

    /// Returns the remedy for the signature of the certificate at `index` of a chain.
    static func signatureRemedy(at index: Int) -> String {
        let remedy = index == 0 ? "have the certificate issued again" : newIssuer
        return "a certificate needs \(signatureKinds); \(remedy)"
    }

    /// The AlgorithmIdentifier rsaEncryption (RFC 8017 appendix A.1), which precedes the key in a certificate and in
    /// PKCS #8.
    private static let rsaEncryption: [UInt8] = [
        0x30, 0x0D, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 0x05, 0x00,
    ]

    /// Returns the size of the modulus: the first long integer of an RSA key. Other keys have long integers as well,
    /// such as the parameters of DSA and of explicit curves.
    ///
    /// - Parameter isKey: Whether the structure is an RSA key itself, and does not only contain one.
    private static func rsaBits(_ der: ArraySlice<UInt8>, isKey: Bool) -> Int? {
        guard let node = try? DER.parse(der), case .constructed(let parts) = node.content else { return nil }
        var isKeyNext = false
        for part in parts {
            switch part.content {
            case .constructed:
                isKeyNext = part.encodedBytes.elementsEqual(rsaEncryption)
                if let bits = rsaBits(part.encodedBytes, isKey: false) { return bits }
            case .primitive(let content):
                // A BIT STRING begins with the number of its unused bits.
                let key = content.first == 0 ? content.dropFirst() : content
                if isKeyNext, let bits = rsaBits(key, isKey: true) { return bits }
                let modulus = content.drop { $0 == 0 }
                guard isKey, part.identifier == .integer, modulus.count > 20, let first = modulus.first else {
                    continue
                }
                return modulus.count * 8 - first.leadingZeroBitCount
            }
        }
        return nil
    }
}
