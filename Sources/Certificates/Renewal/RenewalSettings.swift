package import ACME
import Formats
package import NIOCore
package import Outbound

/// Which certificates are to be had, from which CAs, and how.
package struct RenewalSettings: Sendable {
    /// A CA, and what makes us believe that it is the one.
    package struct Authority: Sendable {
        package var authority: ACMEAuthority
        package var trust: OutboundTrust

        package init(_ authority: ACMEAuthority, trust: OutboundTrust = .system) {
            self.authority = authority
            self.trust = trust
        }
    }

    /// Certificates for hosts that agents bring.
    package struct OnDemand: Sendable {
        /// Whether a host may have one: it matches a configured pattern, and an agent is there that may serve it. Asked
        /// before each order; from any thread.
        package var allows: @Sendable (CertificateName) -> Bool
        /// Orders of this replica.
        package var perMinute: Int

        package init(perMinute: Int, allows: @escaping @Sendable (CertificateName) -> Bool) {
            self.perMinute = perMinute
            self.allows = allows
        }
    }

    /// At least one; the next is tried only when the one before is out of order or has had enough of us.
    package var authorities: [Authority]
    /// Each with 1 to ``ACMELimits/names`` names, of which the first is what it is called by.
    package var certificates: [[CertificateName]]
    package var onDemand: OnDemand?
    /// The best first.
    package var challenges: [ChallengeKind]
    package var profile: String?
    package var preferredIssuer: String?
    /// What else the outcome of an order depends on, such as a DNS hook; without secrets.
    package var remarks: String
    /// A holder of a lease that did not move for so long is taken for dead.
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

    /// Directory URLs in their order.
    var directories: [String] { authorities.map(\.authority.id) }

    /// - Parameter state: after a validation that failed the next kind of challenge comes first.
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

    /// A hash of what the outcome of an order depends on: other settings deserve a new attempt.
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
