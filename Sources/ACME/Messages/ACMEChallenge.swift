import Formats

/// The methods of proving control of a name that this client supports.
package enum ChallengeKind: String, Sendable, CaseIterable, CustomStringConvertible {
    /// HTTP challenge (RFC 8555 §8.3).
    case http01 = "http-01"
    /// TLS challenge with ALPN (RFC 8737).
    case tlsALPN01 = "tls-alpn-01"
    /// DNS challenge (RFC 8555 §8.4).
    case dns01 = "dns-01"

    package var description: String { rawValue }
}

/// A challenge resource: one method of proving control of a name (RFC 8555 §7.1.5).
package struct ACMEChallenge: Equatable, Sendable {
    package enum Status: String, Sendable {
        case pending, processing, valid, invalid
    }

    package let kind: ChallengeKind
    package let url: ACMEURL
    package let status: Status
    package let token: String
    package let error: ACMEProblem?

    init(_ reader: DocumentReader, _ kind: ChallengeKind, from origin: ACMEURL) throws(ACMEMessageError) {
        self.kind = kind
        url = try reader.url("url", from: origin)
        status = try reader.enumValue("status")
        token = try reader.string("token")
        error = try reader.object("error").map { reader throws(ACMEMessageError) in try ACMEProblem(reader) }
        guard Self.isToken(token) else {
            throw reader.error("token", "is not a token of 1 to 128 letters, digits, \"-\" and \"_\"")
        }
    }

    /// Whether the text is a token of 1 to 128 base64url characters. Tokens become part of paths and names, so nothing
    /// else is accepted.
    package static func isToken(_ text: some StringProtocol) -> Bool {
        (1...128).contains(text.utf8.count) && text.utf8.allSatisfy(Base64URL.isDigit)
    }
}
