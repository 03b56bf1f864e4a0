import Crypto
import Formats

/// The response to one challenge: what the CA's validators have to find for one name.
package struct ChallengeTask: Hashable, Sendable {
    package let kind: ChallengeKind
    /// The name without the `*.` of a wildcard.
    package let name: CertificateName
    package let token: String
    /// The key authorization (RFC 8555 §8.1), which is also the body of the response to `http-01`.
    package let keyAuthorization: String

    package init(_ kind: ChallengeKind, _ name: CertificateName, token: String, key: AccountKey) {
        self.kind = kind
        self.name = name
        self.token = token
        keyAuthorization = key.keyAuthorization(token)
    }

    init(_ reader: DocumentReader) throws(ACMEMessageError) {
        kind = try reader.enumValue("type")
        guard let name = CertificateName(try reader.string("name")) else { throw reader.error("name", "is not a name") }
        self.name = name
        token = try reader.string("token")
        keyAuthorization = try reader.string("key_authorization")
        guard ACMEChallenge.isToken(token) else { throw reader.error("token", "is not a token") }
    }

    var fields: [String: JSONValue] {
        [
            "type": .string(kind.rawValue), "name": .string(name.description), "token": .string(token),
            "key_authorization": .string(keyAuthorization),
        ]
    }

    /// The path that `http-01` requests on port 80 of the name (RFC 8555 §8.3).
    package var path: String { "/.well-known/acme-challenge/\(token)" }

    /// The SHA-256 of the key authorization: the content of the certificate extension for `tls-alpn-01` (RFC 8737 §3).
    package var digest: [UInt8] { Array(SHA256.hash(data: Array(keyAuthorization.utf8))) }

    /// The server name in the TLS hello of `tls-alpn-01`. For an address it is its reverse mapping (RFC 8738 §6).
    package var serverName: String {
        guard case .address(let text) = name, let bytes = IPAddressText.bytes(text) else {
            return name.description
        }
        if bytes.count == 4 { return bytes.reversed().map { "\($0)" }.joined(separator: ".") + ".in-addr.arpa" }
        let digits = Hex.string(bytes).reversed().map { String($0) }
        return digits.joined(separator: ".") + ".ip6.arpa"
    }

    /// The name of the TXT record for `dns-01` (RFC 8555 §8.4), without a trailing dot. One name may need several
    /// values at the same time.
    package var recordName: String { "_acme-challenge.\(name)" }
    package var recordValue: String { Base64URL.encode(digest) }
}

/// The document by which replicas share a task, so that every one of them can respond to the CA's validators.
extension ChallengeTask {
    /// The largest document that is read, in bytes. Documents that this release writes are smaller than 1 KiB.
    package static let documentLimit = 4_096

    package var document: [UInt8] {
        var fields = fields
        fields["format"] = .integer(DocumentReader.recordFormat)
        return fields.json
    }

    /// Reads a shared document, and accepts nothing that a CA would not ask for: a process that can write to the shared
    /// volume must not be able to make a gateway serve arbitrary text.
    ///
    /// - Parameter place: The name of the document in error messages.
    package init(document bytes: [UInt8], place: String) throws(ACMEMessageError) {
        guard bytes.count <= Self.documentLimit else {
            throw ACMEMessageError(place, "has \(bytes.count) bytes; at most \(Self.documentLimit) are read")
        }
        let reader = try DocumentReader(record: bytes, place)
        try self.init(reader)
        guard !name.description.hasPrefix("*.") else { throw reader.error("name", "is a wildcard") }
        // The token, a dot, and a SHA-256 in base64url (RFC 8555 §8.1).
        let parts = keyAuthorization.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].elementsEqual(token.utf8), parts[1].count == 43,
            parts[1].allSatisfy(Base64URL.isDigit)
        else { throw reader.error("key_authorization", "does not belong to this token") }
    }
}
