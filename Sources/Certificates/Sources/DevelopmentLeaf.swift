import ACME
import Crypto
import FoundationEssentials
import Glibc
import Store
import SwiftASN1
import X509

/// The certificate that a process issues to itself from the shared root, in memory. It needs no write to the store, so
/// a host that an agent serves is covered at once, on every replica and in any state of the volume. Clients that trust
/// or pin the root trust every leaf; the served chain contains the root, so that it can be pinned.
enum DevelopmentLeaf {
    static let lifetime: TimeInterval = 90 * 86_400
    /// The remaining lifetime below which the leaf is issued again.
    static let renewal: TimeInterval = lifetime / 3
    /// The largest number of names. A certificate with more does not fit well into a handshake.
    static let nameLimit = 256

    /// Returns the fixed names of every leaf, this machine's name, and the requested names, without duplicates and at
    /// most ``nameLimit``.
    ///
    /// - Parameter isCovered: Whether another source serves a name. The fixed names are always included, since a leaf
    ///   needs names.
    static func names(_ requested: [String], isCovered: (CertificateName) -> Bool) -> [CertificateName] {
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

/// The name of this machine, which the development certificate covers.
enum MachineName {
    /// The host name of this machine as the kernel knows it.
    static var own: String? {
        var bytes = [UInt8](repeating: 0, count: 256)
        let result = bytes.withUnsafeMutableBytes { buffer in
            gethostname(buffer.assumingMemoryBound(to: CChar.self).baseAddress!, buffer.count - 1)
        }
        return result == 0 ? String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) : nil
    }
}
