package import Credentials
package import Formats
package import HopProtocol
package import NIOCore
import Synchronization
import Transport

/// The attachments of this process, and the choice of one of them for each request.
///
/// One exists per gateway. A session goes through it as follows; all calls come from ``AgentSession`` on the session's
/// event loop:
///
/// 1. ``claim(run:tokenID:limit:)`` reserves a place for the agent's run, within the token's limit.
/// 2. ``attach(_:)`` adds the attachment; from then on requests are sent to it.
/// 3. ``update(id:services:hosts:)`` changes what it offers, after a SERVICES message or a change of its token.
/// 4. ``detach(id:)`` removes it when the session is closed, and releases the place.
///
/// Requests call ``pick(_:excluding:random:)`` on any loop. It reads an immutable snapshot; a change builds a new one
/// and, if hosts are concerned, gives the ``Router`` a new ``HostTable``. The bookkeeping is done by
/// ``AttachmentTable``, which knows nothing of sessions; this class adds the lock, the snapshot and the router.
package final class AgentRegistry: Sendable {
    package typealias Table = AttachmentTable<Attachment>

    package enum Choice {
        case attachment(Attachment)
        /// All attachments have reached their limit of concurrent requests.
        case busy
        case none
    }

    private struct State {
        var table = Table()
        var snapshot = Snapshot(byService: [:])
    }

    /// The part of the table that a request reads.
    private final class Snapshot: Sendable {
        let byService: [Table.Key: [Attachment]]

        init(byService: [Table.Key: [Attachment]]) {
            self.byService = byService
        }
    }

    private let state = Mutex(State())
    private let router: Router
    private let credentials: CredentialCache

    package init(router: Router, credentials: CredentialCache) {
        self.router = router
        self.credentials = credentials
    }

    // MARK: Requests

    /// Chooses an attachment for one attempt at a request. Called on any event loop.
    ///
    /// - Parameters:
    ///   - tried: The ids of the attachments that this request was already sent to.
    ///   - random: 64 random bits.
    package func pick(_ target: RouteTarget, excluding tried: [UInt64], random: UInt64) -> Choice {
        let key = Table.Key(agent: target.agent, service: target.service)
        guard let candidates = state.withLock({ $0.snapshot }).byService[key] else { return .none }
        let choice = LoadBalancing.pick(
            candidates,
            random: random,
            isUsable: { attachment in
                attachment.state == .active && !tried.contains(attachment.id)
                    && credentials.credential(id: attachment.info.tokenID)?.allows(service: target.service) == true
                    && attachment.session.isResponsive
            },
            load: { $0.hasCapacity ? $0.requestsInFlight : nil }
        )
        return switch choice {
        case .candidate(let attachment): .attachment(attachment)
        case .busy: .busy
        case .none: .none
        }
    }

    // MARK: Changes

    /// Reserves one of the places that limit how many runs a token may have attached at a time. The run keeps it until
    /// the last of its sessions is detached. Has to be followed by ``attach(_:)``.
    ///
    /// - Parameter limit: The maximum number of runs, or `nil` for no limit.
    /// - Returns: `false` if that many other runs are attached.
    package func claim(run: RunID, tokenID: String, limit: Int?) -> Bool {
        state.withLock { $0.table.claim(run: run, tokenID: tokenID, limit: limit) }
    }

    /// The attachments with this token and this name of an agent.
    package func attachments(tokenID: String, instance: String) -> [Attachment] {
        state.withLock { $0.table.rows(tokenID: tokenID, instance: instance).map(\.member) }
    }

    /// Adds an attachment whose run has a place.
    ///
    /// - Returns: The earlier attachments with the same token and name.
    package func attach(_ row: Table.Row) -> [Attachment] {
        change(hosts: !row.hosts.isEmpty) { $0.add(row).map(\.member) }
    }

    /// Replaces the services and hosts that an attachment offers.
    package func update(id: UInt64, services: [String], hosts: [HostPattern]) {
        change(hosts: true) { _ = $0.update(id: id, services: services, hosts: hosts) }
    }

    /// Removes an attachment and ends it. The hosts that it offered are remembered, see
    /// ``AttachmentTable/rememberedHosts``.
    package func detach(id: UInt64) {
        change(hosts: true) { table in table.remove(id: id)?.member.end() }
    }

    /// Forgets the remembered hosts of a token that was revoked.
    package func forgetHosts(tokenID: String) {
        change(hosts: true) { $0.forgetHosts(tokenID: tokenID) }
    }

    private func change<Result: Sendable>(hosts: Bool, _ body: (inout Table) -> Result) -> Result {
        state.withLock { state in
            let result = body(&state.table)
            state.snapshot = Snapshot(byService: state.table.byService)
            if hosts { router.replaceHosts(HostTable(state.table.hosts)) }
            return result
        }
    }

    // MARK: Contents

    package var rows: [Table.Row] { state.withLock { Array($0.table.rows.values) } }

    /// The first `limit` attachments whose id is greater than `id`, in the order of their ids.
    package func rows(after id: UInt64, limit: Int) -> [Table.Row] {
        let rows = state.withLock { $0.table.rows }
        return rows.keys.filter { $0 > id }.sorted().prefix(limit).compactMap { rows[$0] }
    }

    package var count: Int { state.withLock { $0.table.rows.count } }

    /// The keep-alive interval for a new session. It grows with the number of sessions, so that pings cost the gateway
    /// the same however many agents are attached.
    package var keepAlive: TimeAmount { Self.keepAlive(sessions: count) }

    package static func keepAlive(sessions: Int) -> TimeAmount {
        let milliseconds = min(max(1_000, sessions / 2), 15_000)
        return .milliseconds(Int64(milliseconds))
    }
}
