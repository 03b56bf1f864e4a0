package import Formats
package import Store

/// The attachments of all other replicas, by what they offer: a hint of where an agent is. The replica that holds an
/// attachment decides whether it takes a request.
///
/// A value type without locks or clocks; it is fed with the rows of members. A copy shares its storage, so that
/// requests read one while the next is made.
package struct SessionDirectory: Sendable {
    /// Returns how specifically a token allows a host at the moment, or `nil` if it does not.
    package typealias Specificity = (_ tokenID: String, _ host: HostPattern) -> Int?

    /// An attachment in the cluster.
    private struct RowID: Hashable {
        var replica: Incarnation
        var session: UInt64
    }

    package private(set) var index = SessionIndex()
    /// The hosts that have another owner since the last call of ``removeTransfers()``.
    private var transfers: [SessionIndex.Transfer] = []
    /// The rows that could not be decoded, since the start.
    package private(set) var refused: UInt64 = 0
    private var rows: [Incarnation: [UInt64: SessionRow]] = [:]
    private var byToken: [String: Set<RowID>] = [:]
    /// The replicas whose rows are kept outside the index.
    private var suspended: Set<Incarnation> = []

    package init() {}

    /// The number of rows.
    package var count: Int { rows.values.reduce(0) { $0 + $1.count } }

    /// The number of rows of a replica.
    package func count(of replica: Incarnation) -> Int { rows[replica]?.count ?? 0 }

    /// Returns the changes of owners since the last call.
    package mutating func removeTransfers() -> [SessionIndex.Transfer] {
        defer { transfers = [] }
        return transfers
    }

    // MARK: Changes

    /// Applies changes of a replica's rows.
    ///
    /// - Parameter upstream: The way to the replica.
    package mutating func apply(
        _ changes: RowChanges,
        of replica: Incarnation,
        upstream: any AnyObject & Sendable,
        _ specificity: Specificity
    ) {
        switch changes {
        case .all(let table):
            // Inserted first, so that the owner of a host that stays does not change twice.
            let old = rows.removeValue(forKey: replica) ?? [:]
            rows[replica, default: [:]].reserveCapacity(table.rows.count)
            for (key, value) in table.rows { put(key, value, replica, upstream, specificity) }
            for row in old.values { delete(row, of: replica) }
        case .records(let records):
            for record in records {
                switch record {
                case .put(let key, let value): put(key, value, replica, upstream, specificity)
                case .remove(let key): remove(Self.session(key), of: replica)
                case .unknown: break
                }
            }
        }
    }

    /// Takes the rows of a replica out of the index, because it shows no sign of life. Its hosts pass to others.
    package mutating func suspend(_ replica: Incarnation) {
        guard suspended.insert(replica).inserted else { return }
        for row in (rows[replica] ?? [:]).values { transfers += index.remove(row) }
    }

    /// Puts the rows of a replica back into the index. It has not published them again, because it was only silent.
    package mutating func resume(_ replica: Incarnation) {
        guard suspended.remove(replica) != nil else { return }
        for row in (rows[replica] ?? [:]).values { transfers += index.insert(row) }
    }

    /// Removes the rows of a replica that has left or died.
    package mutating func remove(_ replica: Incarnation) {
        defer { suspended.remove(replica) }
        for row in (rows.removeValue(forKey: replica) ?? [:]).values { delete(row, of: replica) }
    }

    /// Decides again which hosts the attachments of these tokens may serve, because their credentials have changed.
    package mutating func update(tokens: some Sequence<String>, _ specificity: Specificity) {
        for token in tokens {
            for id in byToken[token] ?? [] {
                guard let row = rows[id.replica]?[id.session] else { continue }
                let claims = row.claims.map {
                    HostClaim(host: $0.host, specificity: specificity(token, $0.host))
                }
                guard claims != row.claims else { continue }
                let new = SessionRow(row.info, services: row.services, claims: claims, upstream: row.upstream)
                rows[id.replica]?[id.session] = new
                guard !suspended.contains(id.replica) else { continue }
                transfers += index.insert(new) + index.remove(row)
            }
        }
    }

    private static func session(_ key: [UInt8]) -> UInt64? {
        key.count == 8 ? key.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) } : nil
    }

    private mutating func put(
        _ key: [UInt8],
        _ value: [UInt8],
        _ replica: Incarnation,
        _ upstream: any AnyObject & Sendable,
        _ specificity: Specificity
    ) {
        guard let record = SessionRecord(key: key, value: value) else {
            refused += 1
            // A row that cannot be read replaces what it was before, too.
            return remove(Self.session(key), of: replica)
        }
        let claims = record.hosts.map {
            HostClaim(host: $0, specificity: specificity(record.info.tokenID, $0))
        }
        let row = SessionRow(record.info, services: record.services, claims: claims, upstream: upstream)
        if !suspended.contains(replica) { transfers += index.insert(row) }
        let old = rows[replica, default: [:]].updateValue(row, forKey: row.info.id)
        byToken[row.info.tokenID, default: []].insert(RowID(replica: replica, session: row.info.id))
        if let old { delete(old, of: replica) }
    }

    private mutating func remove(_ session: UInt64?, of replica: Incarnation) {
        guard let session, let row = rows[replica]?.removeValue(forKey: session) else { return }
        delete(row, of: replica)
    }

    private mutating func delete(_ row: SessionRow, of replica: Incarnation) {
        if !suspended.contains(replica) { transfers += index.remove(row) }
        let (token, id) = (row.info.tokenID, RowID(replica: replica, session: row.info.id))
        // A row that replaces this one is of the same token as a rule.
        guard rows[replica]?[row.info.id]?.info.tokenID != token else { return }
        byToken[token]?.remove(id)
        if byToken[token]?.isEmpty == true { byToken[token] = nil }
    }
}
