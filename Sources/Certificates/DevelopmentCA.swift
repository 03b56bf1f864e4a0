import Crypto
package import FoundationEssentials
import SwiftASN1
import X509

/// Certificates for a gateway that has none: a root and a leaf under the data folder, made on first start.
///
/// The chain that is served holds the root too, so that an agent can pin it by fingerprint.
/// The leaf is only a derivative: one that is missing, damaged, worn or for other names is issued again.
package struct DevelopmentCA: Sendable {
    static let leafLifetime: TimeInterval = 90 * 86_400
    /// Issued again when less than this is left.
    static let renewal: TimeInterval = leafLifetime / 3
    /// Leaf names at most; a certificate with more does not fit in a handshake well.
    package static let nameLimit = 256
    private static let leafName = "leaf.pem"

    package let root: DevelopmentRoot
    package let leaf: ServerCertificate
    private let directory: String

    /// Where it is kept within the gateway's data folder.
    package static func directory(dataDirectory: String) -> String { "\(dataDirectory)/development-ca" }

    /// Reads or makes both. Two processes on one folder end with the same root.
    ///
    /// - Parameters:
    ///   - directory: made with mode 0700 when it is missing.
    ///   - names: DNS names, wildcards and addresses beside those every development leaf has; what is no name is left
    ///     out.
    ///   - now: the wall clock.
    package static func loadOrCreate(
        directory: String,
        names: [String] = [],
        now: Date = Date()
    ) throws(CertificatesError) -> DevelopmentCA {
        let root = try DevelopmentRoot.loadOrCreate(directory: directory, now: now)
        let wanted = leafNames(names)
        if let leaf = try load(directory, root), Set(leaf.names) == Set(wanted), isFresh(leaf, now) {
            return DevelopmentCA(root: root, leaf: leaf, directory: directory)
        }
        let leaf = try issue(root: root, directory: directory, names: wanted, now: now)
        return DevelopmentCA(root: root, leaf: leaf, directory: directory)
    }

    /// Itself, or with a new leaf when a name is missing or the leaf is worn.
    package func renewed(covering names: [String], now: Date = Date()) throws(CertificatesError) -> DevelopmentCA {
        let wanted = Self.leafNames(names)
        if Set(leaf.names).isSuperset(of: wanted), Self.isFresh(leaf, now) { return self }
        let leaf = try Self.issue(root: root, directory: directory, names: wanted, now: now)
        return DevelopmentCA(root: root, leaf: leaf, directory: directory)
    }

    /// The names that every leaf has, this machine's own, and those asked for; each once, at most ``nameLimit``.
    static func leafNames(_ names: [String]) -> [CertificateName] {
        let always = ["localhost", "*.localhost", "127.0.0.1", "::1"]
        var seen: Set<CertificateName> = []
        let all = (always + [HostName.own].compactMap(\.self) + names).compactMap { CertificateName($0) }
        return Array(all.filter { seen.insert($0).inserted }.prefix(nameLimit))
    }

    private static func isFresh(_ leaf: ServerCertificate, _ now: Date) -> Bool {
        leaf.leaf.notValidBefore <= now && leaf.leaf.notValidAfter.timeIntervalSince(now) >= renewal
    }

    /// The leaf on disk; nil if it is missing or of no use. A file that others could have put there is an error.
    private static func load(_ directory: String, _ root: DevelopmentRoot) throws(CertificatesError)
        -> ServerCertificate?
    {
        let path = "\(directory)/\(leafName)"
        let bytes: [UInt8]
        do {
            let folder = PrivateFolder(path: directory)
            guard let present = try folder.readIfPresent(leafName, limit: CertificateFiles.sizeLimit) else {
                return nil
            }
            bytes = present
        } catch {
            throw CertificatesError(error)
        }
        guard let leaf = try? ServerCertificate(chain: bytes, key: bytes, chainPath: path, keyPath: path),
            root.certificate.publicKey.isValidSignature(leaf.leaf.signature, for: leaf.leaf)
        else { return nil }
        return leaf
    }

    private static func issue(
        root: DevelopmentRoot,
        directory: String,
        names: [CertificateName],
        now: Date
    ) throws(CertificatesError) -> ServerCertificate {
        let path = "\(directory)/\(leafName)"
        let leaf: ServerCertificate
        do {
            let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
            let certificate = try Certificate(
                version: .v3,
                serialNumber: Certificate.SerialNumber(bytes: SerialNumbers.random()),
                publicKey: key.publicKey,
                notValidBefore: max(now - DevelopmentRoot.backdating, root.certificate.notValidBefore),
                notValidAfter: min(now + leafLifetime, root.certificate.notValidAfter),
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
            leaf = ServerCertificate(
                chain: [try certificate.serializeAsPEM(), root.document],
                leaf: certificate,
                key: try key.serializeAsPEM(),
                origin: path
            )
        } catch {
            throw CertificatesError(.issuance, path, "the development certificate could not be made: \(error)")
        }
        do {
            try PrivateFolder(path: directory).publish(leafName, leaf.chainPEM + leaf.keyPEM)
        } catch {
            throw CertificatesError(error)
        }
        return leaf
    }
}
