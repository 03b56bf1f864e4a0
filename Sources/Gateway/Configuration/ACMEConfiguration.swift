package import ACME
package import Certificates
package import Formats
package import NIOCore

/// The configuration of certificates from CAs (RFC 8555). Present only if ACME is used: if names, or hosts on demand,
/// are configured.
package struct ACMEConfiguration: Sendable, Equatable {
    /// The CAs in the order of preference, at least one. The next CA is used only if those before it fail or have
    /// exceeded their rate limits.
    package var authorities: [RenewalSettings.Authority]
    /// The kinds of challenges, preferred ones first. Contains `dns-01` if and only if there is a DNS hook.
    package var challenges: [ChallengeKind]
    /// The names of each certificate, 1 to 100. A certificate is identified by the first one. No name occurs twice.
    package var names: [[CertificateName]]
    /// The CA's profile for all orders, or `nil` for its default.
    package var profile: String?
    /// The common name of the preferred issuer: of several chains that a CA offers, the first one with this name is
    /// used.
    package var preferredIssuer: String?
    /// The DNS hook, or `nil` if none is configured; then there is no `dns-01` and there are no wildcards.
    package var dns: DNSHookSettings?
    package var onDemand: OnDemand

    /// The configuration of certificates for hosts that are served but not named in the configuration.
    package struct OnDemand: Sendable, Equatable {
        package static let standardLimits = IssuanceBudget.Limits(perMinute: 10, perWeek: 100)

        /// The hosts that may get a certificate; none if empty.
        package var hosts: [HostPattern] = []
        /// The numbers of hosts that may get their first order, in the whole cluster.
        package var limits = standardLimits

        package init() {}

        package func allows(_ host: HostPattern) -> Bool { hosts.contains { $0.covers(host) } }
    }

    package init(authorities: [RenewalSettings.Authority]) {
        self.authorities = authorities
        challenges = Self.standardChallenges
        names = []
        onDemand = OnDemand()
    }

    /// The challenges that need nothing but the gateway itself.
    package static let standardChallenges: [ChallengeKind] = [.http01, .tlsALPN01]
}

extension ACMEConfiguration {
    /// The settings in the form that renewal uses.
    package func renewalSettings(leaseTime: TimeAmount, onDemand: RenewalSettings.OnDemand? = nil) -> RenewalSettings {
        RenewalSettings(
            authorities: authorities,
            certificates: names,
            onDemand: onDemand,
            challenges: challenges,
            profile: profile,
            preferredIssuer: preferredIssuer,
            remarks: dns.map { "\($0)" } ?? "",
            leaseTime: leaseTime
        )
    }

    /// Whether a certificate from a CA will be presented, now or later, to agents that connect to one of these hosts,
    /// provided that the development CA is in use. Then it is not at an address.
    package func mayAnswer(at hosts: [String]) -> Bool {
        hosts.contains { host in
            guard let name = CertificateName(host), case .dns(let text) = name else { return false }
            return covers(text)
        }
    }

    /// Whether a certificate from a CA covers, or may come to cover, a host.
    ///
    /// - Parameter host: A DNS name.
    private func covers(_ host: String) -> Bool {
        // The wildcard of a certificate covers one label (RFC 9525 §6.3), that of a host pattern any number.
        let wildcard = host.firstIndex(of: ".").map { "*\(host[$0...])" }
        let isNamed = names.joined().contains { $0.description == host || $0.description == wildcard }
        return isNamed || onDemand.allows(.exact(host))
    }
}
