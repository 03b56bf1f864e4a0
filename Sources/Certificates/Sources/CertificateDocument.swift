import Formats
import FoundationEssentials
package import Store

/// A certificate as the store keeps it: one sealed JSON object with the chain, its private key and when and from where
/// it came. Readers therefore get a pair that belongs together or none, and only a process with the key of the cluster
/// can place a certificate.
package struct CertificateDocument: Equatable, Sendable {
    private static let format: Int64 = 1

    /// The chain and the private key as PEM.
    package let chain: [UInt8]
    package let key: [UInt8]
    /// The publisher: `import`, `acme` or `development-ca`.
    package let source: String
    /// The directory URL of the CA that issued the certificate by ACME.
    package let authority: String?
    /// The other fields, for people.
    private let facts: [String: JSONValue]

    /// - Parameter now: The wall clock, for display only.
    init(_ certificate: ServerCertificate, source: String, authority: String?, now: Date) {
        chain = certificate.chainPEM
        key = certificate.keyPEM
        self.source = source
        self.authority = authority
        facts = [
            "created": .string(now.formatted(.iso8601)),
            "names": .array(certificate.names.map { .string("\($0)") }),
            "not_after": .string(CertificateStatus.time(certificate.notValidAfter)),
            "sha256": .string(Hex.string(certificate.leafSHA256)),
        ]
    }

    /// - Throws: `corrupt`, `foreign` or `newerFormat`.
    package init(_ stored: StoredValue, at key: StoreKey, _ keyring: ClusterKeyring) throws(StoreError) {
        let place = "\(key)/\(stored.version)"
        let fields = [String: JSONValue](json: try SealedDocument.open(stored, at: key, with: keyring))
        guard let fields, let format = fields["format"]?.integer else {
            throw StoreError(.corrupt, place, "is not a certificate document; \(StoreLayout.remedy(for: key))")
        }
        guard format <= Self.format else {
            throw StoreError.laterFormat(place, format, reads: Self.format)
        }
        guard let chain = fields["chain"]?.string, let privateKey = fields["key"]?.string,
            let source = fields["source"]?.string
        else {
            throw StoreError(.corrupt, place, "is not a complete certificate document; \(StoreLayout.remedy(for: key))")
        }
        self.chain = Array(chain.utf8)
        self.key = Array(privateKey.utf8)
        self.source = source
        authority = fields["authority"]?.string
        facts = fields.filter { !["format", "chain", "key", "source", "authority"].contains($0.key) }
    }

    package func sealed(at place: StoreKey, with signing: ClusterKey) -> [UInt8] {
        var fields = facts
        fields["format"] = .integer(Self.format)
        fields["chain"] = .string(String(decoding: chain, as: UTF8.self))
        fields["key"] = .string(String(decoding: key, as: UTF8.self))
        fields["source"] = .string(source)
        fields["authority"] = authority.map { .string($0) }
        return SealedDocument.seal(fields.json, at: place, with: signing)
    }
}
