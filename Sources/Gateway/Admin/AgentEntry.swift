package import Cluster
package import Formats
package import NIOCore

/// One attachment as the admin port shows it.
package struct AgentEntry: Sendable {
    package let info: AttachmentInfo
    package let state: Attachment.State
    package let attachedAt: NIODeadline
    package let requestsInFlight: Int
    package let services: [String]
    package let hosts: [HostPattern]

    package init(
        _ info: AttachmentInfo,
        state: Attachment.State,
        attachedAt: NIODeadline,
        requestsInFlight: Int = 0,
        services: [String],
        hosts: [HostPattern]
    ) {
        self.info = info
        self.state = state
        self.attachedAt = attachedAt
        self.requestsInFlight = requestsInFlight
        self.services = services
        self.hosts = hosts
    }

    init(_ row: SessionRow) {
        let attachment = row.attachment
        self.init(
            row.info,
            state: attachment.state,
            attachedAt: attachment.attachedAt,
            requestsInFlight: attachment.requestsInFlight,
            services: row.services,
            hosts: row.hosts
        )
    }

    /// A page of the attachments, or `nil` if the cursor is none.
    ///
    /// - Parameter entries: Returns a number of attachments with greater ids than the given one, in order.
    package static func page(
        count: Int,
        after cursor: String?,
        _ entries: (_ id: UInt64, _ limit: Int) -> [AgentEntry]
    ) -> [String: JSONValue]? {
        guard let after = cursor.map({ UInt64($0) }) ?? 0 else { return nil }
        let now = NIODeadline.now()
        return AdminPage.answer(
            "agents",
            count: count,
            entries(after, AdminPage.rowLimit + 1),
            cursor: { "\($0.info.id)" },
            { $0.document(now: now) }
        )
    }

    /// The rank in a summary: attachments that take no requests first, then those with most requests in flight.
    var rank: (Int, Int64) { (state == .active ? 1 : 0, -Int64(requestsInFlight)) }

    package func document(now: NIODeadline) -> [String: JSONValue] {
        [
            "session": .integer(Int64(clamping: info.id)),
            "token_id": .string(info.tokenID),
            "name": .string(info.agent),
            "instance": .string(info.instance),
            "run": .string("\(info.run)"),
            "attachment": .integer(Int64(clamping: info.number)),
            "state": .string(state.name),
            "services": .array(services.map { .string($0) }),
            "hosts": .array(hosts.map { .string($0.description) }),
            "attached_seconds": .seconds(now - attachedAt),
            "requests_in_flight": .integer(Int64(requestsInFlight)),
        ]
    }
}
