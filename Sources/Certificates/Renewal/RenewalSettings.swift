package import ACME
import Formats
package import NIOCore
package import Outbound

/// The settings of ACME: the certificates, the CAs, and the options of orders.
package struct RenewalSettings: Sendable {
    /// A CA, and the trust anchors of its server.
    package struct Authority: Equatable, Sendable {
        package var authority: ACMEAuthority
        package var trust: OutboundTrust

        package init(_ authority: ACMEAuthority, trust: OutboundTrust = .system) {
            self.authority = authority
            self.trust = trust
        }

        /// The settings that the account and the connection to the CA depend on.
        var parts: [String] {
            var parts = ["authority", authority.id]
            if let external = authority.externalAccount {
                parts += ["external", external.keyID, Fingerprint.of(Hex.string(external.macKey))]
            }
            if case .file(let path) = trust { parts += ["trust", path] }
            return parts + authority.contacts
        }
    }

    /// The settings of certificates for hosts that agents offer.
    package struct OnDemand: Sendable {
        /// The limits of first orders in the whole cluster. Renewals do not count.
        package var limits: IssuanceBudget.Limits
        /// Whether a host matches a configured pattern.
        package var covers: @Sendable (CertificateName) -> Bool
        /// Returns whether a host may have a certificate. Called for every client's hello, from any thread.
        package var eligibility: @Sendable (CertificateName) -> Eligibility

        package init(
            limits: IssuanceBudget.Limits,
            covers: @escaping @Sendable (CertificateName) -> Bool,
            eligibility: @escaping @Sendable (CertificateName) -> Eligibility
        ) {
            self.limits = limits
            self.covers = covers
            self.eligibility = eligibility
        }
    }

    /// Whether a host may have a certificate on demand.
    package enum Eligibility: Equatable, Sendable {
        /// No configured pattern matches, no agent offers exactly this host, or another certificate covers it.
        case refused
        /// The host may have one, and has one.
        case certified
        /// The host may have one, and has none. An agent with this token offers it.
        case offered(token: String)
    }

    /// The CAs, at least one. The next one is used only if the previous one is out of order or limits the rate.
    package var authorities: [Authority]
    /// The configured certificates, each with 1 to ``ACME/ACMELimits/names`` names. The first name identifies the
    /// certificate.
    package var certificates: [[CertificateName]]
    package var onDemand: OnDemand?
    /// The kinds of challenges, most preferred first.
    package var challenges: [ChallengeKind]
    package var profile: String?
    package var preferredIssuer: String?
    /// Other settings that the outcome of an order depends on, such as the DNS hook, without secrets.
    package var remarks: String
    /// The time after which the holder of a lease that shows no activity is considered dead.
    package var leaseTime: TimeAmount
    /// The times of CAs that are out of order.
    package var gateTiming = AuthorityGate.Timing()

    package init(
        authorities: [Authority],
        certificates: [[CertificateName]],
        onDemand: OnDemand? = nil,
        challenges: [ChallengeKind],
        profile: String? = nil,
        preferredIssuer: String? = nil,
        remarks: String = "",
        leaseTime: TimeAmount = .seconds(15)
    ) {
        precondition(!authorities.isEmpty, "there is at least one CA")
        self.authorities = authorities
        self.certificates = certificates
        self.onDemand = onDemand
        self.challenges = challenges
        self.profile = profile
        self.preferredIssuer = preferredIssuer
        self.remarks = remarks
        self.leaseTime = leaseTime
    }

    /// The directory URLs in the order of the configuration.
    var directories: [String] { authorities.map(\.authority.id) }

    /// Creates the plan of an order.
    ///
    /// - Parameter state: The state of the name. After a failed validation the next kind of challenge comes first.
    package func plan(
        _ names: [CertificateName],
        at authority: Authority,
        replacing renewalID: String?,
        after state: RenewalState
    ) -> OrderPlan {
        let turn = state.hasFailedValidation ? state.failures % challenges.count : 0
        return OrderPlan(
            authority: authority.authority,
            names: names,
            challenges: Array(challenges[turn...] + challenges[..<turn]),
            profile: profile,
            replaces: renewalID,
            preferredIssuer: preferredIssuer
        )
    }

    /// Computes a hash of everything that the outcome of an order depends on. A new attempt is made if it changes.
    func fingerprint(_ names: [CertificateName]) -> String {
        var parts = names.map(\.description).sorted()
        parts += ["challenges"] + challenges.map(\.rawValue)
        parts += ["profile", profile ?? "", "issuer", preferredIssuer ?? "", "remarks", remarks]
        parts += authorities.flatMap(\.parts)
        return Fingerprint.of(parts.joined(separator: "\n"))
    }
}
