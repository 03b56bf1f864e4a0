package import HopProtocol

/// A value that an ``AttachmentTable`` can hold: an ``Attachment``, or a stand-in without a session.
package protocol AttachmentTableMember: Sendable {
    var info: AttachmentInfo { get }
}

extension Attachment: AttachmentTableMember {}

/// The attachments of one replica with the services and hosts that they offer: pure bookkeeping, without sessions.
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

    /// Hosts of agents that left are remembered, so that their clients hear 503 and not 404.
    package static var rememberedHosts: Int { 1_024 }

    /// By the session's id. What one agent does costs no walk over all of them.
    package private(set) var rows: [UInt64: Row] = [:]
    package private(set) var byService: [Key: [Member]] = [:]
    private var memberIDs: [Key: [UInt64]] = [:]
    private var byInstance: [Instance: [UInt64]] = [:]
    /// Sessions of each run, by the token's id; those that have claimed a place and are not attached yet included.
    private var runs: [String: [RunID: Int]] = [:]
    /// Rows that ask for hosts, in the order of arrival; the first to ask has the host.
    private var hostRows: [UInt64] = []
    private var remembered: [(tokenID: String, registration: HostRegistration)] = []

    private struct Instance: Hashable, Sendable {
        var tokenID: String
        var name: String
    }

    package init() {}

    /// Takes a place for a session of this run, unless `limit` other runs of the token are there. The place is given back
    /// by ``remove(id:)``. A run that is there already has its place, however many sessions it has.
    package mutating func claim(run: RunID, tokenID: String, limit: Int?) -> Bool {
        let known = runs[tokenID] ?? [:]
        if let limit, known[run] == nil, known.count >= limit { return false }
        runs[tokenID, default: [:]][run, default: 0] += 1
        return true
    }

    /// Those of this token and agent's name.
    package func rows(tokenID: String, instance: String) -> [Row] {
        (byInstance[Instance(tokenID: tokenID, name: instance)] ?? []).compactMap { rows[$0] }
    }

    /// Adds one, whose run has a place, and returns those of the same token and name that were there before it.
    package mutating func add(_ row: Row) -> [Row] {
        precondition(rows[row.info.id] == nil, "a session attaches once")
        let instance = Instance(tokenID: row.info.tokenID, name: row.info.instance)
        let older = rows(tokenID: row.info.tokenID, instance: row.info.instance)
        byInstance[instance, default: []].append(row.info.id)
        insert(row)
        return older
    }

    /// Returns whether the row is there.
    @discardableResult
    package mutating func update(id: UInt64, services: [String], hosts: [HostPattern]) -> Bool {
        guard var row = rows[id] else { return false }
        delete(row)
        row.services = services
        row.hosts = hosts
        insert(row)
        return true
    }

    @discardableResult
    package mutating func remove(id: UInt64) -> Row? {
        guard let row = rows[id] else { return nil }
        delete(row)
        let instance = Instance(tokenID: row.info.tokenID, name: row.info.instance)
        byInstance[instance]?.removeAll { $0 == id }
        if byInstance[instance]?.isEmpty == true { byInstance[instance] = nil }
        leave(row.info.run, tokenID: row.info.tokenID)
        for registration in Self.registrations(of: row) {
            remembered.removeAll { $0.registration == registration }
            remembered.append((row.info.tokenID, registration))
        }
        if remembered.count > Self.rememberedHosts { remembered.removeFirst(remembered.count - Self.rememberedHosts) }
        return row
    }

    private mutating func leave(_ run: RunID, tokenID: String) {
        guard let sessions = runs[tokenID]?[run] else { return }
        runs[tokenID]?[run] = sessions > 1 ? sessions - 1 : nil
        if runs[tokenID]?.isEmpty == true { runs[tokenID] = nil }
    }

    /// The token is no more: its hosts are unknown.
    package mutating func forget(tokenID: String) {
        remembered.removeAll { $0.tokenID == tokenID }
    }

    /// Who is present first, then who was.
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

    /// An agent's hosts lead to the service that it names first.
    private static func registrations(of row: Row) -> [HostRegistration] {
        guard let service = row.services.first else { return [] }
        return row.hosts.map { HostRegistration(host: $0, agent: row.info.agent, service: service) }
    }
}
