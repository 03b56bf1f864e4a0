/// What a CA says of the right to one name (RFC 8555 section 7.1.4).
package struct ACMEAuthorization: Equatable, Sendable {
    package enum Status: String, Sendable {
        case pending, valid, invalid, deactivated, expired, revoked
    }

    package let status: Status
    /// Without the `*.` of a wildcard.
    package let identifier: ACMEIdentifier
    package let isWildcard: Bool
    /// Those of kinds that are known here.
    package let challenges: [ACMEChallenge]
    /// The kinds of all that are offered, for messages.
    package let offered: [String]

    /// - Parameter origin: the directory of the CA.
    package init(_ bytes: [UInt8], from origin: ACMEURL) throws(ACMEMessageError) {
        let reader = try DocumentReader(bytes, "authorization")
        status = try reader.choice("status")
        guard let name = try reader.object("identifier") else { throw reader.error("identifier", "is missing") }
        identifier = try ACMEIdentifier(name)
        isWildcard = try reader.bool("wildcard") ?? false
        var challenges: [ACMEChallenge] = []
        var offered: [String] = []
        for inner in try reader.objects("challenges", limit: ACMELimits.challenges) {
            let type = try inner.string("type")
            offered.append(ForeignText.shown(type, limit: 40))
            guard let kind = ChallengeKind(rawValue: type) else { continue }
            challenges.append(try ACMEChallenge(inner, kind, from: origin))
        }
        self.challenges = challenges
        self.offered = offered
    }
}
