package import Formats
package import HashTreeCollections

/// The attachments by what they offer: by service, and by host. A value whose copies share their storage: a change
/// costs a few nodes, however many attachments there are, and requests read an older copy meanwhile.
///
/// A host belongs to one token: the one whose credential names it most specifically, of several the one with the lower
/// id. Every replica computes the same over the attachments of all replicas, see ``HostOwner``. Requests for the host
/// are sent to attachments of that token that offer it.
package struct SessionIndex: Sendable {
    private struct ServiceKey: Hashable {
        var agent: String
        var service: String
    }

    /// A host and the tokens of which attachments offer it, the owner first.
    private struct HostEntry {
        let host: HostPattern
        var claimants: [Claimant] = []
    }

    private struct Claimant {
        let owner: HostOwner
        var rows: TreeSet<SessionRow>
    }

    private var services: TreeDictionary<ServiceKey, TreeSet<SessionRow>> = [:]
    private var hosts = HostIndex<HostEntry>()

    package init() {}

    /// The number of hosts.
    package var hostCount: Int { hosts.count }
    /// The number of further tokens that claim a host, summed over the hosts.
    package private(set) var contested = 0

    // MARK: Changes

    /// A change of the owner of a host, by the ids of the tokens; `nil` if no attachment offers the host.
    package struct Transfer: Equatable, Sendable {
        package var host: HostPattern
        package var from: String?
        package var to: String?

        package init(host: HostPattern, from: String?, to: String?) {
            self.host = host
            self.from = from
            self.to = to
        }
    }

    /// Adds a row that is not in the index. Returns the hosts that have another owner now.
    package mutating func insert(_ row: SessionRow) -> [Transfer] {
        for service in row.services {
            services[ServiceKey(agent: row.info.agent, service: service), default: []].insert(row)
        }
        let token = row.info.tokenID
        return changeHosts(of: row) { claimants, specificity in
            let owner = HostOwner(tokenID: token, specificity: specificity)
            if let known = claimants.firstIndex(where: { $0.owner == owner }) {
                claimants[known].rows.insert(row)
            } else {
                let place = claimants.firstIndex { owner.precedes($0.owner) } ?? claimants.endIndex
                claimants.insert(Claimant(owner: owner, rows: [row]), at: place)
            }
        }
    }

    /// Removes a row that is in the index. Returns the hosts that have another owner now.
    package mutating func remove(_ row: SessionRow) -> [Transfer] {
        for service in row.services {
            let key = ServiceKey(agent: row.info.agent, service: service)
            services[key]?.remove(row)
            if services[key]?.isEmpty == true { services[key] = nil }
        }
        let token = row.info.tokenID
        return changeHosts(of: row) { claimants, specificity in
            let owner = HostOwner(tokenID: token, specificity: specificity)
            guard let index = claimants.firstIndex(where: { $0.owner == owner }) else { return }
            claimants[index].rows.remove(row)
            if claimants[index].rows.isEmpty { claimants.remove(at: index) }
        }
    }

    private mutating func changeHosts(
        of row: SessionRow,
        _ change: (_ claimants: inout [Claimant], _ specificity: Int) -> Void
    ) -> [Transfer] {
        var transfers: [Transfer] = []
        for claim in row.claims {
            guard let specificity = claim.specificity else { continue }
            let (transfer, growth) = Self.change(&hosts[claim.host], claim.host) { change(&$0, specificity) }
            contested += growth
            if let transfer { transfers.append(transfer) }
        }
        return transfers
    }

    private static func change(
        _ entry: inout HostEntry?,
        _ host: HostPattern,
        _ change: (inout [Claimant]) -> Void
    ) -> (transfer: Transfer?, contested: Int) {
        // Moved out, so that the list is changed in place.
        var changed = entry ?? HostEntry(host: host)
        entry = nil
        let (from, count) = (changed.claimants.first?.owner.tokenID, changed.claimants.count)
        change(&changed.claimants)
        let to = changed.claimants.first?.owner.tokenID
        if to != nil { entry = changed }
        let growth = max(1, changed.claimants.count) - max(1, count)
        return (from == to ? nil : Transfer(host: host, from: from, to: to), growth)
    }

    // MARK: Look-ups

    /// The rows that offer a service, of all tokens with this name.
    package func rows(agent: String, service: String) -> SessionRows {
        SessionRows(services[ServiceKey(agent: agent, service: service)] ?? [])
    }

    /// The rows of a token that offer exactly this pattern, whether it owns the host or not.
    package func rows(host: HostPattern, tokenID: String) -> SessionRows {
        // A token has several entries only while a change of its credential is applied to one row after another.
        let claimants = hosts[host]?.claimants.filter { $0.owner.tokenID == tokenID } ?? []
        return SessionRows(claimants.dropFirst().reduce(claimants.first?.rows ?? []) { $0.union($1.rows) })
    }

    /// The token that owns exactly this pattern among the attachments of this index.
    package func owner(of host: HostPattern) -> HostOwner? { hosts[host]?.claimants.first?.owner }

    /// The most specific pattern that attachments offer and that covers a host, with its owner and one of its rows.
    ///
    /// - Parameter host: As ``HostIndex/find(_:)`` takes it.
    package func find(_ host: String) -> (host: HostPattern, owner: HostOwner, row: SessionRow)? {
        guard let entry = hosts.find(host), let first = entry.claimants.first, let row = first.rows.first else {
            return nil
        }
        return (entry.host, first.owner, row)
    }
}

/// A token that offers a host.
package struct HostOwner: Equatable, Sendable {
    package let tokenID: String
    /// The specificity of the pattern of the token that covers the host (``HostPattern/specificity``).
    package let specificity: Int

    package init(tokenID: String, specificity: Int) {
        self.tokenID = tokenID
        self.specificity = specificity
    }

    /// Whether the host belongs to this token rather than to the other one.
    package func precedes(_ other: HostOwner) -> Bool {
        (other.specificity, tokenID) < (specificity, other.tokenID)
    }
}

/// Some rows of an index in no particular order. A row is found by its position in logarithmic time.
package struct SessionRows: RandomAccessCollection, Sendable {
    private let rows: TreeSet<SessionRow>

    init(_ rows: TreeSet<SessionRow>) { self.rows = rows }

    package func makeIterator() -> TreeSet<SessionRow>.Iterator { rows.makeIterator() }
    package var startIndex: Int { 0 }
    package var endIndex: Int { rows.count }
    package subscript(position: Int) -> SessionRow { rows[rows.index(rows.startIndex, offsetBy: position)] }
}
