package import ACME
import Formats
package import NIOCore
package import Outbound

/// The settings of ACME: the certificates, the CAs, and the options of orders.
package struct RenewalSettings: Sendable {
    /// A CA, and the trust anchors of its server.
    package struct Authority: Sendable {
        package var authority: ACMEAuthority
        package var trust: OutboundTrust

        package init(_ authority: ACMEAuthority, trust: OutboundTrust = .system) {
            self.authority = authority
            self.trust = trust
        }
    }

    /// The settings of certificates for hosts that agents serve.
    package struct OnDemand: Sendable {
        /// Whether a host may have a certificate: it matches a configured pattern, and an attached agent may serve it.
        /// Called before each order, from any thread.
        package var allows: @Sendable (CertificateName) -> Bool
        /// The number of orders per minute of this replica.
        package var perMinute: Int

        package init(perMinute: Int, allows: @escaping @Sendable (CertificateName) -> Bool) {
            self.perMinute = perMinute
            self.allows = allows
        }
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
        for entry in authorities {
            let authority = entry.authority
            parts += ["authority", authority.id, "\(authority.agreesToTerms)"]
            if let external = authority.externalAccount {
                parts += ["external", external.keyID, Fingerprint.of(Hex.string(external.macKey))]
            }
            if case .file(let path) = entry.trust { parts += ["trust", path] }
            parts += authority.contacts
        }
        return Fingerprint.of(parts.joined(separator: "\n"))
    }
}
