package import ACME
package import Formats

/// The decision about one certificate: a pure function of what the store holds and of the CA's clock.
package enum RenewalDecision: Equatable, Sendable {
    /// Order the certificate from the CA with this directory URL.
    case order(authority: String)
    /// Ask the CA that issued the certificate for its renewal information.
    case fetchRenewalInfo(authority: String)
    /// Wait until this time, unless something changes.
    case idle(until: UnixTime)
    /// Wait until a CA that is closed for all names opens, at most until this time.
    case blocked(until: UnixTime)

    var isAction: Bool {
        switch self {
        case .order, .fetchRenewalInfo: true
        case .idle, .blocked: false
        }
    }
}

/// The known state of one certificate.
package struct CertificateSituation: Sendable {
    package var names: [CertificateName]
    /// The facts of the stored certificate, or `nil` if there is none.
    package var facts: CertificateFacts?
    /// The directory URL of the CA that issued the certificate, or `nil` if it was not issued by ACME.
    package var issuer: String?
    package var state: RenewalState
    /// Whether a new certificate was requested, regardless of the age of the present one.
    package var isRequested = false

    package init(
        names: [CertificateName],
        facts: CertificateFacts? = nil,
        issuer: String? = nil,
        state: RenewalState = RenewalState()
    ) {
        self.names = names
        self.facts = facts
        self.issuer = issuer
        self.state = state
    }

    /// The text whose hash spreads renewals. It is the same on every replica.
    var spreadingKey: String { names.map(\.description).sorted().joined(separator: ",") }

    /// The plan of the renewal, or `nil` if there is no certificate.
    package var renewal: RenewalPlan? {
        facts.map { RenewalPolicy.plan($0, name: spreadingKey, stored: state.renewal) }
    }

    /// Whether a new certificate is needed. A certificate of a CA that is no longer configured, such as a staging CA,
    /// is replaced at once.
    func isDue(authorities: [String], now: UnixTime) -> Bool {
        guard let facts, let renewal else { return true }
        if let issuer, !authorities.contains(issuer) { return true }
        return isRequested || now >= renewal.at || !Set(names).isSubset(of: facts.names)
    }

    /// Decides what to do now.
    ///
    /// - Parameters:
    ///   - authorities: The directory URLs in the order of the configuration.
    ///   - settings: The ``RenewalSettings/fingerprint(_:)`` of the settings.
    ///   - closed: The CAs that accept no orders at the moment.
    package func decision(
        authorities: [String],
        settings: String,
        closed: Set<String> = [],
        now: UnixTime
    ) -> RenewalDecision {
        if isDue(authorities: authorities, now: now) {
            var state = state
            // A request implies that the cause of the failure was removed. The holds of CAs still apply.
            if isRequested { state.nextTry = nil }
            switch RetryPolicy.next(state, authorities: authorities, settings: settings, closed: closed, now: now) {
            case .attempt(let authority): return .order(authority: authority)
            case .wait(let until): return .idle(until: until)
            case .blocked(let until): return .blocked(until: until)
            }
        }
        guard let facts, let renewal else { preconditionFailure("a missing certificate is due at once") }
        guard let issuer, facts.renewalID != nil, !closed.contains(issuer) else { return .idle(until: renewal.at) }
        let poll = renewal.nextPoll ?? now
        return poll <= now ? .fetchRenewalInfo(authority: issuer) : .idle(until: min(poll, renewal.at))
    }
}
