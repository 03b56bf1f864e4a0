import Formats

/// The ways of proving control of a name that are known here.
package enum ChallengeKind: String, Sendable, CaseIterable, CustomStringConvertible {
    /// RFC 8555 section 8.3.
    case http01 = "http-01"
    /// RFC 8737.
    case tlsALPN01 = "tls-alpn-01"
    /// RFC 8555 section 8.4.
    case dns01 = "dns-01"

    package var description: String { rawValue }
}

/// What a CA says of one way of proving control of a name (RFC 8555 section 7.1.5).
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
        status = try reader.choice("status")
        token = try reader.string("token")
        error = try reader.object("error").map { reader throws(ACMEMessageError) in try ACMEProblem(reader) }
        guard Self.isToken(token) else {
            throw reader.error("token", "is no token: 1 to 128 letters, digits, \"-\" and \"_\"")
        }
    }

    /// It becomes a part of paths and of names: nothing but base64url may be in it.
    package static func isToken(_ text: some StringProtocol) -> Bool {
        (1...128).contains(text.utf8.count) && text.utf8.allSatisfy(Base64URL.isDigit)
    }
}
