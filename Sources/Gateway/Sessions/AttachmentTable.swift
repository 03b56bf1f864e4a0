package import Cluster
import DequeModule
package import Formats
package import HashTreeCollections
package import HopProtocol

/// The attachments of one replica with the services and hosts that they offer. A value type without sessions or locks;
/// ``AgentRegistry`` owns one, and tests use it with a stand-in for the attachment of a row.
///
/// It maintains several indexes of the same rows, so that no operation visits all of them: by session id, by offer (for
/// requests), by token and instance (to find older sessions of an agent), and the number of sessions per run (for a
/// token's limit).
package struct AttachmentTable: Sendable {
    /// The number of hosts of detached agents that are remembered: clients receive 503 for them instead of 404.
    package static let rememberedHosts = 1_024
    /// The number of older attachments that ``add(_:)`` returns, since thousands of agents may have one name.
    package static let olderLimit = 8

    /// The rows by session id.
    package private(set) var rows: TreeDictionary<UInt64, SessionRow> = [:]
    private(set) var all: TreeSet<SessionRow> = []
    package private(set) var offers = AgentOffers()
    /// The remembered hosts, the oldest first. Those that were offered again have another number.
    private var memory = Deque<(host: HostPattern, number: UInt64)>()
    private var lastNumber: UInt64 = 0
    private var byInstance: [Instance: [UInt64]] = [:]
    /// The number of sessions of each run, by token id. Includes sessions that have a place but are not attached yet.
    private var runs: [String: [RunID: Int]] = [:]

    private struct Instance: Hashable, Sendable {
        var tokenID: String
        var name: String
    }

    package init() {}

    /// Reserves a place for a session of this run, unless `limit` other runs of the token have one. ``remove(id:)``
    /// releases it. All sessions of a run share one place.
    package mutating func claim(run: RunID, tokenID: String, limit: Int?) -> Bool {
        if let limit, runs[tokenID]?.count ?? 0 >= limit, runs[tokenID]?[run] == nil { return false }
        runs[tokenID, default: [:]][run, default: 0] += 1
        return true
    }

    /// The newest rows with this token and instance name.
    package func rows(tokenID: String, instance: String, limit: Int = .max) -> [SessionRow] {
        (byInstance[Instance(tokenID: tokenID, name: instance)] ?? []).suffix(limit).compactMap { rows[$0] }
    }

    /// Adds a row whose run has a place.
    ///
    /// - Returns: The newest of the earlier rows with the same token and instance name, and the hosts that have another
    ///   owner now.
    package mutating func add(_ row: SessionRow) -> (older: [SessionRow], transfers: [SessionIndex.Transfer]) {
        precondition(rows[row.info.id] == nil, "a session attaches once")
        let older = rows(tokenID: row.info.tokenID, instance: row.info.instance, limit: Self.olderLimit)
        byInstance[Instance(tokenID: row.info.tokenID, name: row.info.instance), default: []].append(row.info.id)
        return (older, insert(row))
    }

    /// Replaces what an attachment offers.
    ///
    /// - Returns: The hosts that have another owner now.
    package mutating func update(
        id: UInt64,
        services: [String],
        claims: [HostClaim]
    ) -> [SessionIndex.Transfer] {
        guard let row = rows[id] else { return [] }
        let new = SessionRow(row.info, services: services, claims: claims, upstream: row.upstream)
        // Inserted first, so that the owner of a host that stays does not change twice.
        let transfers = insert(new) + delete(row)
        // What the token no longer allows is not known.
        for claim in claims where claim.specificity == nil { offers.remembered[claim.host] = nil }
        return transfers
    }

    /// Removes a row, releases its place, and remembers its hosts.
    ///
    /// - Returns: The row and the hosts that have another owner now, or `nil` if there is none.
    package mutating func remove(id: UInt64) -> (row: SessionRow, transfers: [SessionIndex.Transfer])? {
        guard let row = rows.removeValue(forKey: id) else { return nil }
        let instance = Instance(tokenID: row.info.tokenID, name: row.info.instance)
        byInstance[instance]?.removeAll { $0 == id }
        if byInstance[instance]?.isEmpty == true { byInstance[instance] = nil }
        releasePlace(row.info.run, tokenID: row.info.tokenID)
        return (row, delete(row))
    }

    private mutating func releasePlace(_ run: RunID, tokenID: String) {
        guard let sessions = runs[tokenID]?[run] else { return }
        runs[tokenID]?[run] = sessions > 1 ? sessions - 1 : nil
        if runs[tokenID]?.isEmpty == true { runs[tokenID] = nil }
    }

    private mutating func insert(_ row: SessionRow) -> [SessionIndex.Transfer] {
        rows[row.info.id] = row
        all.insert(row)
        for host in row.hosts { offers.remembered[host] = nil }
        return offers.index.insert(row)
    }

    private mutating func delete(_ row: SessionRow) -> [SessionIndex.Transfer] {
        all.remove(row)
        let transfers = offers.index.remove(row)
        for transfer in transfers where transfer.to == nil {
            remember(transfer.host, tokenID: row.info.tokenID, agent: row.info.agent, service: row.services[0])
        }
        return transfers
    }

    // MARK: Remembered hosts

    /// Remembers a host that no attachment offers any more, here or at another replica.
    package mutating func remember(_ host: HostPattern, tokenID: String, agent: String, service: String) {
        guard offers.index.owner(of: host) == nil else { return }
        lastNumber += 1
        offers.remembered[host] = RememberedHost(
            host: host,
            agent: agent,
            service: service,
            tokenID: tokenID,
            number: lastNumber
        )
        memory.append((host, lastNumber))
        while offers.remembered.count > Self.rememberedHosts || memory.count > 2 * Self.rememberedHosts {
            guard let oldest = memory.popFirst() else { return }
            if offers.remembered[oldest.host]?.number == oldest.number { offers.remembered[oldest.host] = nil }
        }
    }

    /// Forgets a remembered host, because it is offered again.
    package mutating func forget(_ host: HostPattern) { offers.remembered[host] = nil }

    /// Forgets the remembered hosts of a token, which was revoked.
    package mutating func forgetHosts(tokenID: String) {
        for (host, number) in memory {
            guard let entry = offers.remembered[host], entry.number == number, entry.tokenID == tokenID else {
                continue
            }
            offers.remembered[host] = nil
        }
    }
}
