import ACME
import Crypto
import FoundationEssentials
import Glibc
import Store
import SwiftASN1
import X509

/// The certificate that a process issues for itself from the shared root, in memory: that needs no write to the store, so
/// a host that an agent brings is covered at once, on every replica, whatever state the volume is in. Whoever trusts or
/// pins the root trusts each of them; the chain that is served holds the root, so that it can be pinned.
enum DevelopmentLeaf {
    static let lifetime: TimeInterval = 90 * 86_400
    /// Issued again when less than this is left.
    static let renewal: TimeInterval = lifetime / 3
    /// Names at most; a certificate with more does not fit in a handshake well.
    static let nameLimit = 256

    /// The names that every leaf has, this machine's own, and those asked for; each once, at most ``nameLimit``.
    ///
    /// - Parameter isCovered: says which of them another source serves. The fixed ones stay: a leaf has names.
    static func names(_ requested: [String], isCovered: (CertificateName) -> Bool = { _ in false }) -> [CertificateName]
    {
        let fixed = ["localhost", "*.localhost", "127.0.0.1", "::1"].compactMap { CertificateName($0) }
        let others = ([MachineName.own].compactMap(\.self) + requested).compactMap { CertificateName($0) }
        var seen: Set<CertificateName> = []
        let all = fixed + others.lazy.filter { !isCovered($0) }
        return Array(all.filter { seen.insert($0).inserted }.prefix(nameLimit))
    }

    static func isFresh(_ leaf: ServerCertificate, now: Date) -> Bool {
        leaf.leaf.notValidBefore <= now && leaf.leaf.notValidAfter.timeIntervalSince(now) >= renewal
    }

    static func issue(
        _ names: [CertificateName],
        by root: DevelopmentRoot,
        now: Date
    ) throws(CertificatesError) -> ServerCertificate {
        do {
            let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
            let certificate = try Certificate(
                version: .v3,
                serialNumber: .random(),
                publicKey: key.publicKey,
                notValidBefore: max(now - DevelopmentRoot.backdating, root.certificate.notValidBefore),
                notValidAfter: min(now + lifetime, root.certificate.notValidAfter),
                issuer: root.certificate.subject,
                subject: try DistinguishedName {
                    OrganizationName("HopGate")
                    CommonName("HopGate development")
                },
                signatureAlgorithm: .ecdsaWithSHA256,
                extensions: Certificate.Extensions {
                    Critical(BasicConstraints.notCertificateAuthority)
                    Critical(KeyUsage(digitalSignature: true))
                    try ExtendedKeyUsage([.serverAuth])
                    SubjectAlternativeNames(names.map(\.generalName))
                    SubjectKeyIdentifier(hash: key.publicKey)
                    AuthorityKeyIdentifier(
                        keyIdentifier: SubjectKeyIdentifier(hash: root.certificate.publicKey).keyIdentifier
                    )
                },
                issuerPrivateKey: root.key
            )
            return ServerCertificate(
                documents: [try certificate.serializeAsPEM(), root.document],
                chain: [certificate, root.certificate],
                key: try key.serializeAsPEM(),
                origin: "development CA"
            )
        } catch {
            let place = CertificateSet.developmentCA.path
            throw CertificatesError(.issuance, place, "the development certificate could not be made: \(error)")
        }
    }
}

enum MachineName {
    /// This machine's name as the kernel knows it.
    static var own: String? {
        var bytes = [UInt8](repeating: 0, count: 256)
        let result = bytes.withUnsafeMutableBytes { buffer in
            gethostname(buffer.assumingMemoryBound(to: CChar.self).baseAddress!, buffer.count - 1)
        }
        return result == 0 ? String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) : nil
    }
}
