package import Formats
package import HopProtocol

/// A value that an ``AttachmentTable`` can hold: an ``Attachment``, or a stand-in without a session.
package protocol AttachmentTableMember: Sendable {
    var info: AttachmentInfo { get }
}

extension Attachment: AttachmentTableMember {}

/// The attachments of one replica with the services and hosts that they offer. A value type without sessions or locks;
/// ``AgentRegistry`` owns one, and tests use it with a stand-in.
///
/// It maintains several indexes of the same rows, so that no operation visits all of them: by session id, by agent and
/// service (for requests), by token and instance (to find older sessions of an agent), and the number of sessions per
/// run (for a token's limit). ``hosts`` is the input for a ``HostTable``.
package struct AttachmentTable<Member: AttachmentTableMember>: Sendable {
    /// One attachment and its current offer.
    package struct Row: Sendable {
        package var member: Member
        package var services: [String]
        package var hosts: [HostPattern]

        package init(_ member: Member, services: [String], hosts: [HostPattern]) {
            self.member = member
            self.services = services
            self.hosts = hosts
        }

        package var info: AttachmentInfo { member.info }
    }

    package struct Key: Hashable, Sendable {
        package var agent: String
        package var service: String

        package init(agent: String, service: String) {
            self.agent = agent
            self.service = service
        }
    }

    /// The number of hosts of detached agents that are remembered: clients receive 503 for them instead of 404.
    package static var rememberedHosts: Int { 1_024 }

    /// The rows by session id.
    package private(set) var rows: [UInt64: Row] = [:]
    package private(set) var byService: [Key: [Member]] = [:]
    private var memberIDs: [Key: [UInt64]] = [:]
    private var byInstance: [Instance: [UInt64]] = [:]
    /// The number of sessions of each run, by token id. Includes sessions that have a place but are not attached yet.
    private var runs: [String: [RunID: Int]] = [:]
    /// The rows that offer hosts, in the order of attachment. A host belongs to the first row that offers it.
    private var hostRows: [UInt64] = []
    private var remembered: [(tokenID: String, registration: HostRegistration)] = []

    private struct Instance: Hashable, Sendable {
        var tokenID: String
        var name: String
    }

    package init() {}

    /// Reserves a place for a session of this run, unless `limit` other runs of the token have one. ``remove(id:)``
    /// releases it. All sessions of a run share one place.
    package mutating func claim(run: RunID, tokenID: String, limit: Int?) -> Bool {
        let known = runs[tokenID] ?? [:]
        if let limit, known[run] == nil, known.count >= limit { return false }
        runs[tokenID, default: [:]][run, default: 0] += 1
        return true
    }

    /// The rows with this token and instance name.
    package func rows(tokenID: String, instance: String) -> [Row] {
        (byInstance[Instance(tokenID: tokenID, name: instance)] ?? []).compactMap { rows[$0] }
    }

    /// Adds a row whose run has a place.
    ///
    /// - Returns: The earlier rows with the same token and instance name.
    package mutating func add(_ row: Row) -> [Row] {
        precondition(rows[row.info.id] == nil, "a session attaches once")
        let instance = Instance(tokenID: row.info.tokenID, name: row.info.instance)
        let older = rows(tokenID: row.info.tokenID, instance: row.info.instance)
        byInstance[instance, default: []].append(row.info.id)
        insert(row)
        return older
    }

    /// Replaces the services and hosts of a row.
    ///
    /// - Returns: Whether the row exists.
    @discardableResult
    package mutating func update(id: UInt64, services: [String], hosts: [HostPattern]) -> Bool {
        guard var row = rows[id] else { return false }
        delete(row)
        row.services = services
        row.hosts = hosts
        insert(row)
        return true
    }

    /// Removes a row, releases its place, and remembers its hosts.
    @discardableResult
    package mutating func remove(id: UInt64) -> Row? {
        guard let row = rows[id] else { return nil }
        delete(row)
        let instance = Instance(tokenID: row.info.tokenID, name: row.info.instance)
        byInstance[instance]?.removeAll { $0 == id }
        if byInstance[instance]?.isEmpty == true { byInstance[instance] = nil }
        releasePlace(row.info.run, tokenID: row.info.tokenID)
        for registration in Self.registrations(of: row) {
            remembered.removeAll { $0.registration == registration }
            remembered.append((row.info.tokenID, registration))
        }
        if remembered.count > Self.rememberedHosts { remembered.removeFirst(remembered.count - Self.rememberedHosts) }
        return row
    }

    private mutating func releasePlace(_ run: RunID, tokenID: String) {
        guard let sessions = runs[tokenID]?[run] else { return }
        runs[tokenID]?[run] = sessions > 1 ? sessions - 1 : nil
        if runs[tokenID]?.isEmpty == true { runs[tokenID] = nil }
    }

    /// Forgets the remembered hosts of a token, which was revoked.
    package mutating func forgetHosts(tokenID: String) {
        remembered.removeAll { $0.tokenID == tokenID }
    }

    /// The hosts of the rows, in the order of attachment, then the remembered hosts.
    package var hosts: [HostRegistration] {
        hostRows.flatMap { rows[$0].map(Self.registrations) ?? [] } + remembered.map(\.registration)
    }

    private mutating func insert(_ row: Row) {
        rows[row.info.id] = row
        for service in Set(row.services) {
            let key = Key(agent: row.info.agent, service: service)
            byService[key, default: []].append(row.member)
            memberIDs[key, default: []].append(row.info.id)
        }
        if !row.hosts.isEmpty { hostRows.append(row.info.id) }
    }

    private mutating func delete(_ row: Row) {
        rows[row.info.id] = nil
        for service in Set(row.services) {
            let key = Key(agent: row.info.agent, service: service)
            guard let index = memberIDs[key]?.firstIndex(of: row.info.id) else { continue }
            memberIDs[key]?.remove(at: index)
            byService[key]?.remove(at: index)
            if memberIDs[key]?.isEmpty == true {
                memberIDs[key] = nil
                byService[key] = nil
            }
        }
        if !row.hosts.isEmpty { hostRows.removeAll { $0 == row.info.id } }
    }

    /// The hosts of a row. They lead to the first service that the agent lists.
    private static func registrations(of row: Row) -> [HostRegistration] {
        guard let service = row.services.first else { return [] }
        return row.hosts.map { HostRegistration(host: $0, agent: row.info.agent, service: service) }
    }
}
