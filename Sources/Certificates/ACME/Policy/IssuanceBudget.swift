package import NIOCore

/// How many certificates may be ordered on demand: so many a minute, and each name only once at a time.
package struct IssuanceBudget {
    package enum Answer: Equatable, Sendable {
        /// Go on; then ``IssuanceBudget/finished(_:)``, however it ends.
        case granted
        /// The name is being ordered.
        case underWay
        /// No more in this minute.
        case exhausted
    }

    package let perMinute: Int
    private var grants: [NIODeadline] = []
    private var underWay: Set<CertificateName> = []

    package init(perMinute: Int) {
        self.perMinute = max(0, perMinute)
    }

    package mutating func ask(_ name: CertificateName, now: NIODeadline) -> Answer {
        guard !underWay.contains(name) else { return .underWay }
        grants.removeAll { $0 + .minutes(1) <= now }
        guard grants.count < perMinute else { return .exhausted }
        grants.append(now)
        underWay.insert(name)
        return .granted
    }

    /// Whether ``ask(_:now:)`` would be granted for a name that is not being ordered.
    package mutating func hasRoom(now: NIODeadline) -> Bool {
        grants.removeAll { $0 + .minutes(1) <= now }
        return grants.count < perMinute
    }

    package mutating func finished(_ name: CertificateName) {
        underWay.remove(name)
    }
}
