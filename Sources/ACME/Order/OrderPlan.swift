/// The contents of an order: names, CA, and options.
package struct OrderPlan: Equatable, Sendable {
    package var authority: ACMEAuthority
    /// The names, 1 to ``ACMELimits/names``, without duplicates. The certificate is identified by the first one.
    package var names: [CertificateName]
    /// The kinds of challenges that may be used, most preferred first.
    package var challenges: [ChallengeKind]
    /// The profile, which must be one that the directory lists.
    package var profile: String?
    /// The ``CertificateFacts/renewalID`` of the certificate that this one replaces (RFC 9773 §5). It is omitted if the
    /// CA offers no renewal information, and dropped if the CA rejects it.
    package var replaces: String?
    /// The common name of the preferred issuer, such as `ISRG Root X1`. Of several chains, the first one with this
    /// issuer is used.
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

/// The configuration of one CA, to whose terms of service the operator agrees (`acme.agree_to_terms`). Its trust
/// anchors belong to the HTTP client.
package struct ACMEAuthority: Equatable, Sendable {
    package var directory: ACMEURL
    package var externalAccount: ExternalAccount?
    /// The e-mail addresses of the account.
    package var contacts: [String]

    package init(directory: ACMEURL, externalAccount: ExternalAccount? = nil, contacts: [String] = []) {
        self.directory = directory
        self.externalAccount = externalAccount
        self.contacts = contacts
    }

    /// The key of the CA in ``RenewalState/holds``.
    package var id: String { directory.text }
}
