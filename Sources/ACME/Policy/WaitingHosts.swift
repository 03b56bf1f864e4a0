package import NIOCore

/// The hosts on demand that have no certificate and wait for the budget. Bounded: when it is full, the host that has
/// waited longest is removed, and is inserted again if a client asks for it. One token may use half of the places.
package struct WaitingHosts {
    package static let limit = 1_024

    package struct Entry: Equatable, Sendable {
        package let host: CertificateName
        package let token: String
        /// The time of the next request to the budget.
        package fileprivate(set) var due: NIODeadline
    }

    /// The hosts, the one that has waited longest first.
    private var entries: [Entry] = []
    private var hosts: Set<CertificateName> = []

    package init() {}

    package var count: Int { entries.count }

    /// Inserts a host. Returns `false` if it waits already.
    package mutating func insert(_ host: CertificateName, token: String, now: NIODeadline) -> Bool {
        guard hosts.insert(host).inserted else { return false }
        if entries.count(where: { $0.token == token }) >= Self.limit / 2 {
            removeFirst { $0.token == token }
        } else if entries.count >= Self.limit {
            removeFirst { _ in true }
        }
        entries.append(Entry(host: host, token: token, due: now))
        return true
    }

    package mutating func remove(_ host: CertificateName) {
        if hosts.contains(host) { removeFirst { $0.host == host } }
    }

    /// Postpones the next request for a host.
    package mutating func postpone(_ host: CertificateName, until due: NIODeadline) {
        guard let index = entries.firstIndex(where: { $0.host == host }) else { return }
        entries[index].due = due
    }

    /// Returns the hosts whose next request is due.
    package func due(now: NIODeadline) -> [Entry] { entries.filter { $0.due <= now } }

    /// The time at which the next request is due, or `nil` if no host waits.
    package var nextDue: NIODeadline? { entries.map(\.due).min() }

    private mutating func removeFirst(where matches: (Entry) -> Bool) {
        guard let index = entries.firstIndex(where: matches) else { return }
        hosts.remove(entries.remove(at: index).host)
    }
}
