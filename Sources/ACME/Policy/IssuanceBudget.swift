package import NIOCore

/// The rate limit of certificates on demand: a number of orders per minute, and one at a time for each name.
package struct IssuanceBudget {
    package enum Decision: Equatable, Sendable {
        /// The order may start. ``IssuanceBudget/release(_:)`` must follow in every case.
        case granted
        /// An order for the name is in progress.
        case inProgress
        /// The number of orders for this minute is used up.
        case exhausted
    }

    package let perMinute: Int
    private var grants: [NIODeadline] = []
    private var inProgress: Set<CertificateName> = []

    package init(perMinute: Int) {
        self.perMinute = max(0, perMinute)
    }

    package mutating func request(_ name: CertificateName, now: NIODeadline) -> Decision {
        guard !inProgress.contains(name) else { return .inProgress }
        grants.removeAll { $0 + .minutes(1) <= now }
        guard grants.count < perMinute else { return .exhausted }
        grants.append(now)
        inProgress.insert(name)
        return .granted
    }

    /// Whether ``request(_:now:)`` would grant a name for which no order is in progress.
    package mutating func hasCapacity(now: NIODeadline) -> Bool {
        grants.removeAll { $0 + .minutes(1) <= now }
        return grants.count < perMinute
    }

    package mutating func release(_ name: CertificateName) {
        inProgress.remove(name)
    }
}
