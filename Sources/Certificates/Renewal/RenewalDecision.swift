package import ACME
package import Formats

/// What is to be done about one certificate now. Pure: made of what the store holds and of the CA's clock.
package enum RenewalDecision: Equatable, Sendable {
    /// Order it from this CA: its directory URL.
    case order(authority: String)
    /// Ask the CA that issued it when it would like it to be renewed.
    case fetchRenewalInfo(authority: String)
    /// Nothing before then, unless something changes.
    case idle(until: UnixTime)
}

/// One certificate as it is known now.
package struct CertificateSituation: Sendable {
    package var names: [CertificateName]
    /// Of the certificate that the store has; nil: none.
    package var facts: CertificateFacts?
    /// The directory URL of the CA that issued it, if it came by ACME.
    package var issuer: String?
    package var state: RenewalState
    /// Somebody asked for a new one, whatever its age.
    package var isRequested = false

    package init(
        names: [CertificateName],
        facts: CertificateFacts? = nil,
        issuer: String? = nil,
        state: RenewalState = RenewalState(),
        isRequested: Bool = false
    ) {
        self.names = names
        self.facts = facts
        self.issuer = issuer
        self.state = state
        self.isRequested = isRequested
    }

    /// What spreads renewals: the same on every replica.
    var spreadingKey: String { names.map(\.description).sorted().joined(separator: ",") }

    /// When it is to be renewed; nil: there is nothing to renew.
    package var renewal: RenewalPlan? {
        facts.map { RenewalPolicy.plan($0, name: spreadingKey, stored: state.renewal) }
    }

    /// A new certificate is needed. One of a CA that is not configured any more, for tests perhaps, is replaced at once.
    func isDue(authorities: [String], now: UnixTime) -> Bool {
        guard let facts, let renewal else { return true }
        if let issuer, !authorities.contains(issuer) { return true }
        return isRequested || now >= renewal.at || !Set(names).isSubset(of: facts.names)
    }

    /// - Parameters:
    ///   - authorities: directory URLs in the order of the configuration.
    ///   - settings: ``RenewalSettings/fingerprint(_:)``.
    package func decision(authorities: [String], settings: String, now: UnixTime) -> RenewalDecision {
        if isDue(authorities: authorities, now: now) {
            var state = state
            // Whoever asks has mended what was wrong; what the CA forbids stays forbidden.
            if isRequested { state.nextTry = nil }
            switch RetryPolicy.next(state, authorities: authorities, settings: settings, now: now) {
            case .attempt(let authority): return .order(authority: authority)
            case .wait(let until): return .idle(until: until)
            }
        }
        guard let facts, let renewal else { preconditionFailure("what is not there is due") }
        guard let issuer, facts.renewalID != nil else { return .idle(until: renewal.at) }
        let poll = renewal.nextPoll ?? now
        return poll <= now ? .fetchRenewalInfo(authority: issuer) : .idle(until: min(poll, renewal.at))
    }
}
