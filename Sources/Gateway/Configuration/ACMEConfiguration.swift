package import Certificates
import Outbound

/// How certificates are had from CAs (RFC 8555). There is one only where it is in use: names are configured, or hosts
/// on demand.
package struct ACMEConfiguration: Sendable, Equatable {
    /// Each is asked only when those before it are out of order, or have been asked too often. At least one.
    package var authorities: [Authority]
    /// E-mail addresses, told to every CA.
    package var contacts: [String]
    /// The operator has read the terms of service of every CA in the list. True wherever it was loaded.
    package var agreesToTerms: Bool
    /// The best first. With a DNS hook `dns-01` is among them, without one it is not.
    package var challenges: [ChallengeKind]
    /// The names of each certificate, 1 to 100; the first is what it is called by. No name is in it twice.
    package var names: [[CertificateName]]
    /// A profile of the CA's, for every order.
    package var profile: String?
    /// The common name of an issuer: of several chains that a CA offers, the first that has it.
    package var preferredIssuer: String?
    /// Nil: no `dns-01`, thus no wildcards.
    package var dns: DNSHookSettings?
    package var onDemand: OnDemand

    package struct Authority: Sendable, Equatable {
        package var directory: ACMEURL
        package var externalAccount: ExternalAccount?
        /// PEM file of the authorities that the CA's own server is verified by; nil: the system's.
        package var caBundle: String?

        package init(directory: ACMEURL, externalAccount: ExternalAccount? = nil, caBundle: String? = nil) {
            self.directory = directory
            self.externalAccount = externalAccount
            self.caBundle = caBundle
        }
    }

    /// Certificates for hosts that are served without being named here.
    package struct OnDemand: Sendable, Equatable {
        package static let standardBudget = 10

        /// Empty: none.
        package var hosts: [HostPattern] = []
        /// Orders in a minute, 1 to 1000.
        package var perMinute = standardBudget

        package init() {}

        package func allows(_ host: HostPattern) -> Bool { hosts.contains { $0.covers(host) } }
    }

    package init(authorities: [Authority], agreesToTerms: Bool) {
        self.authorities = authorities
        self.agreesToTerms = agreesToTerms
        contacts = []
        challenges = Self.standardChallenges
        names = []
        onDemand = OnDemand()
    }

    /// Both need nothing but the gateway itself.
    package static let standardChallenges: [ChallengeKind] = [.http01, .tlsALPN01]
}

extension ACMEConfiguration {
    /// The CAs with what an account at each of them needs, in the form in which renewal uses them.
    package var renewalAuthorities: [RenewalSettings.Authority] {
        authorities.map { authority in
            RenewalSettings.Authority(
                ACMEAuthority(
                    directory: authority.directory,
                    externalAccount: authority.externalAccount,
                    contacts: contacts,
                    agreesToTerms: agreesToTerms
                ),
                trust: authority.caBundle.map { .file(path: $0) } ?? .system
            )
        }
    }

    /// Whether a certificate from here answers, or will come to answer, whoever dials one of these hosts. What is dialled
    /// by its address is answered with the first certificate that there is, and without hosts nobody knows.
    package func mayAnswer(at hosts: [String]) -> Bool {
        hosts.isEmpty
            || hosts.contains { host in
                guard let name = CertificateName(host), case .dns(let text) = name else { return true }
                return covers(text)
            }
    }

    /// - Parameter host: a DNS name.
    private func covers(_ host: String) -> Bool {
        // A certificate's wildcard stands for one label (RFC 9525 section 6.3), a pattern's for any number.
        let wildcard = host.firstIndex(of: ".").map { "*\(host[$0...])" }
        let isNamed = names.joined().contains { $0.description == host || $0.description == wildcard }
        return isNamed || onDemand.allows(.exact(host))
    }
}
