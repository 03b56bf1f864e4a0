/// What is to be ordered, and how.
package struct OrderPlan: Equatable, Sendable {
    package var authority: ACMEAuthority
    /// 1 to ``ACMELimits/names``, each once; the first is what the certificate is called by.
    package var names: [CertificateName]
    /// The kinds of challenges that may be used, the best first.
    package var challenges: [ChallengeKind]
    /// One of the profiles that the directory lists.
    package var profile: String?
    /// The ``CertificateFacts/renewalID`` of the certificate that this one follows (RFC 9773 section 5). It is left out
    /// where the CA has no renewal information, and dropped if the CA refuses it.
    package var replaces: String?
    /// The common name of an issuer, such as `ISRG Root X1`: of several chains, the first that has it.
    package var preferredIssuer: String?

    package init(
        authority: ACMEAuthority,
        names: [CertificateName],
        challenges: [ChallengeKind],
        profile: String? = nil,
        replaces: String? = nil,
        preferredIssuer: String? = nil
    ) {
        precondition((1...ACMELimits.names).contains(names.count), "an order is for 1 to 100 names")
        precondition(Set(names).count == names.count, "an order has each name once")
        self.authority = authority
        self.names = names
        self.challenges = challenges
        self.profile = profile
        self.replaces = replaces
        self.preferredIssuer = preferredIssuer
    }
}
