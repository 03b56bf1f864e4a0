import Crypto
import Formats

/// What has to be seen by the CA's validators for one name.
package struct ChallengeTask: Hashable, Sendable {
    package let kind: ChallengeKind
    /// The name without `*.`.
    package let name: CertificateName
    package let token: String
    /// Body of the answer to `http-01`.
    package let keyAuthorization: String

    package init(_ kind: ChallengeKind, _ name: CertificateName, token: String, key: AccountKey) {
        self.kind = kind
        self.name = name
        self.token = token
        keyAuthorization = key.keyAuthorization(token)
    }

    init(_ reader: DocumentReader) throws(ACMEMessageError) {
        kind = try reader.choice("type")
        guard let name = CertificateName(try reader.string("name")) else { throw reader.error("name", "is no name") }
        self.name = name
        token = try reader.string("token")
        keyAuthorization = try reader.string("key_authorization")
        guard ACMEChallenge.isToken(token) else { throw reader.error("token", "is no token") }
    }

    var fields: [String: JSONValue] {
        [
            "type": .string(kind.rawValue), "name": .string(name.description), "token": .string(token),
            "key_authorization": .string(keyAuthorization),
        ]
    }

    /// Where `http-01` is asked for (RFC 8555 section 8.3), on port 80 of the name.
    package var path: String { "/.well-known/acme-challenge/\(token)" }

    /// SHA-256 of the key authorization: the content of the certificate's extension for `tls-alpn-01` (RFC 8737
    /// section 3).
    package var digest: [UInt8] { Array(SHA256.hash(data: Array(keyAuthorization.utf8))) }

    /// The server name of the TLS hello for `tls-alpn-01`: for addresses their name in the reverse tree (RFC 8738
    /// section 6).
    package var serverName: String {
        guard case .address(let text) = name, let bytes = CertificateName.addressBytes(text) else {
            return name.description
        }
        if bytes.count == 4 { return bytes.reversed().map { "\($0)" }.joined(separator: ".") + ".in-addr.arpa" }
        let digits = bytes.hexadecimal.reversed().map { String($0) }
        return digits.joined(separator: ".") + ".ip6.arpa"
    }

    /// Name of the TXT record for `dns-01` (RFC 8555 section 8.4), without a final dot. Several values may have to
    /// stand under one name at the same time.
    package var recordName: String { "_acme-challenge.\(name)" }
    package var recordValue: String { Base64URL.encode(digest) }
}
