/// An authorization resource: the state of the account's right to one name (RFC 8555 §7.1.4).
package struct ACMEAuthorization: Equatable, Sendable {
    package enum Status: String, Sendable {
        case pending, valid, invalid, deactivated, expired, revoked
    }

    package let status: Status
    /// The name, without the `*.` of a wildcard.
    package let identifier: ACMEIdentifier
    package let isWildcard: Bool
    /// The challenges of the kinds that this client supports.
    package let challenges: [ACMEChallenge]
    /// The kinds of all offered challenges, for error messages.
    package let offered: [String]

    /// Parses a response.
    ///
    /// - Parameter origin: The directory URL of the CA.
    package init(_ bytes: [UInt8], from origin: ACMEURL) throws(ACMEMessageError) {
        let reader = try DocumentReader(bytes, "authorization")
        status = try reader.enumValue("status")
        guard let name = try reader.object("identifier") else { throw reader.error("identifier", "is missing") }
        identifier = try ACMEIdentifier(name)
        isWildcard = try reader.bool("wildcard") ?? false
        var challenges: [ACMEChallenge] = []
        var offered: [String] = []
        for inner in try reader.objects("challenges", limit: ACMELimits.challenges) {
            let type = try inner.string("type")
            offered.append(UntrustedText.sanitised(type, limit: 40))
            guard let kind = ChallengeKind(rawValue: type) else { continue }
            challenges.append(try ACMEChallenge(inner, kind, from: origin))
        }
        self.challenges = challenges
        self.offered = offered
    }
}
