package import Cluster
package import Credentials
package import Formats
import HashTreeCollections
package import HopProtocol
package import NIOCore
import Synchronization
import Threads
import Transport

/// The attachments of this process, and the choice of one of them for each request.
///
/// One exists per gateway. A session goes through it as follows; all calls come from ``AgentSession`` on the session's
/// event loop:
///
/// 1. ``claim(run:tokenID:limit:)`` reserves a place for the agent's run, within the token's limit.
/// 2. ``attach(_:)`` adds the attachment; from then on requests are sent to it.
/// 3. ``update(id:services:claims:)`` changes what it offers, after a SERVICES message or a change of its token.
/// 4. ``detach(id:)`` removes it when the session is closed, and releases the place.
///
/// Requests call ``pick(_:excluding:random:)`` on any loop. It reads the ``AgentOffers`` of the ``Router``, which each
/// change replaces at the cost of the change, however many attachments there are. The bookkeeping is done by
/// ``AttachmentTable``, which knows nothing of sessions; this class adds the lock.
package final class AgentRegistry: Sendable {
    package enum Choice {
        /// A place that the request can be sent to, and the service that is offered there.
        case upstream(any Upstream, service: String)
        /// All attachments have reached their limit of concurrent requests.
        case busy
        case none
    }

    private let table = Mutex(AttachmentTable())
    /// Sent after each change of ``allRows``.
    let changed = AsyncSignal()
    private let router: Router
    private let credentials: CredentialCache

    package init(router: Router, credentials: CredentialCache) {
        self.router = router
        self.credentials = credentials
    }

    // MARK: Requests

    /// Chooses an attachment for one attempt at a request, whose token allows it at this moment: one of this replica if
    /// there is one, else one of another replica that can be reached. Called on any event loop.
    ///
    /// - Parameters:
    ///   - tried: The attachments that this request was already sent to.
    ///   - random: 64 random bits.
    package func pick(_ target: RouteTarget, excluding tried: [UpstreamID], random: UInt64) -> Choice {
        func allows(_ row: SessionRow) -> Bool {
            guard let credential = credentials.credential(id: row.info.tokenID) else { return false }
            return credential.allows(service: target.service(of: row))
                && target.host.map { credential.allows(host: $0) } ?? true
        }
        func local(_ state: Attachment.State) -> LoadBalancing.Choice<SessionRow> {
            LoadBalancing.pick(
                target.rows(in: router.current.index),
                random: random,
                isUsable: { row in
                    let attachment = row.attachment
                    return attachment.state == state && !tried.contains(attachment.upstreamID) && allows(row)
                        && attachment.session.isResponsive
                },
                load: { $0.attachment.hasCapacity ? $0.attachment.requestsInFlight : nil }
            )
        }
        let active = local(.active)
        if case .candidate(let row) = active { return .upstream(row.attachment, service: target.service(of: row)) }
        let remote = LoadBalancing.pick(
            target.rows(in: router.cluster()),
            random: random,
            isUsable: { row in
                let owner = row.replica
                return owner.session?.isResponsive == true && allows(row)
                    && !tried.contains(UpstreamID(replica: owner.incarnation, session: row.info.id))
            },
            load: { $0.replica.requestsInFlight }
        )
        if case .candidate(let row) = remote, let session = row.replica.session {
            let attachment = RemoteAttachment(row.info, owner: row.replica, session: session)
            return .upstream(attachment, service: target.service(of: row))
        }
        // One that is probed is better than none: it may be another agent of the same name.
        switch local(.suspended) {
        case .candidate(let row): return .upstream(row.attachment, service: target.service(of: row))
        case .busy: return .busy
        case .none: if case .busy = active { return .busy } else { return .none }
        }
    }

    /// Returns the attachment that a request of another replica is for, if it accepts requests.
    ///
    /// - Parameter session: The id of the attachment's session.
    func accepting(session: UInt64) -> Attachment? {
        guard let row = row(id: session), credentials.credential(id: row.info.tokenID) != nil else { return nil }
        let attachment = row.attachment
        guard attachment.state == .active || attachment.state == .suspended else { return nil }
        return attachment.session.isResponsive ? attachment : nil
    }

    // MARK: Changes

    /// Reserves one of the places that limit how many runs a token may have attached at a time. The run keeps it until
    /// the last of its sessions is detached. Has to be followed by ``attach(_:)``.
    ///
    /// - Parameter limit: The maximum number of runs, or `nil` for no limit.
    /// - Returns: `false` if that many other runs are attached.
    package func claim(run: RunID, tokenID: String, limit: Int?) -> Bool {
        table.withLock { $0.claim(run: run, tokenID: tokenID, limit: limit) }
    }

    /// The attachments with this token and this name of an agent.
    package func attachments(tokenID: String, instance: String) -> [Attachment] {
        table.withLock { $0.rows(tokenID: tokenID, instance: instance) }.map(\.attachment)
    }

    /// Adds an attachment whose run has a place.
    ///
    /// - Returns: The earlier attachments with the same token and name.
    package func attach(_ row: SessionRow) -> [Attachment] {
        change { table in
            let (older, transfers) = table.add(row)
            return (older, transfers)
        }.map(\.attachment)
    }

    /// Replaces the services and hosts that an attachment offers.
    package func update(id: UInt64, services: [String], claims: [HostClaim]) {
        change { ((), $0.update(id: id, services: services, claims: claims)) }
    }

    /// Removes an attachment and ends it. The hosts that it offered are remembered, see
    /// ``AttachmentTable/rememberedHosts``.
    package func detach(id: UInt64) {
        change { table in
            let removed = table.remove(id: id)
            // The hosts of a token that was revoked are not known.
            if let token = removed?.row.info.tokenID, credentials.credential(id: token) == nil {
                table.forgetHosts(tokenID: token)
            }
            return (removed?.row, removed?.transfers ?? [])
        }?.attachment.end()
    }

    /// Forgets the remembered hosts of a token that was revoked.
    package func forgetHosts(tokenID: String) {
        change { table in
            table.forgetHosts(tokenID: tokenID)
            return ((), [])
        }
    }

    private func change<Result: Sendable>(
        _ body: (inout AttachmentTable) -> (Result, [SessionIndex.Transfer])
    ) -> Result {
        let (result, transfers) = table.withLock { table in
            let (result, transfers) = body(&table)
            router.replaceOffers(table.offers)
            return (result, transfers)
        }
        changed.send()
        report(transfers.filter { $0.from != nil && $0.to != nil })
        return result
    }

    /// Applies changes of owners among the attachments of other replicas.
    func clusterChanged(_ transfers: [SessionIndex.Transfer]) {
        change { table in
            for transfer in transfers {
                if transfer.to != nil {
                    table.forget(transfer.host)
                } else if let token = transfer.from, let credential = credentials.credential(id: token) {
                    table.remember(transfer.host, tokenID: token, agent: credential.name, service: "")
                }
            }
            return ((), [])
        }
        report(transfers)
    }

    /// Lets the agents of both tokens know, here or at another replica, that hosts have another owner.
    func report(_ transfers: [SessionIndex.Transfer]) {
        guard !transfers.isEmpty else { return }
        let index = router.current.index
        var affected: Set<SessionRow> = []
        for transfer in transfers {
            for token in Set([transfer.from, transfer.to, index.owner(of: transfer.host)?.tokenID].compactMap(\.self)) {
                affected.formUnion(index.rows(host: transfer.host, tokenID: token))
            }
        }
        for row in affected { row.attachment.reportHosts() }
    }

    /// The hosts of an attachment that requests are not sent to it for, because its token no longer allows them, or
    /// because they belong to another token or to a configured route.
    package func lostHosts(id: UInt64) -> [HostPattern] {
        guard let row = row(id: id) else { return [] }
        let lost = row.claims.filter { claim in
            let (owner, routed) = (router.owner(of: claim.host), router.routes.agent(of: claim.host))
            return claim.specificity == nil || owner?.tokenID != row.info.tokenID
                || routed != nil && routed != row.info.agent
        }
        return lost.map(\.host)
    }

    // MARK: Contents

    package var rows: [SessionRow] { Array(table.withLock { $0.rows }.values) }

    /// The rows as a set, of which two copies are compared at the cost of their difference.
    var allRows: TreeSet<SessionRow> { table.withLock { $0.all } }

    package func row(id: UInt64) -> SessionRow? { table.withLock { $0.rows[id] } }

    /// The first `limit` attachments whose id is greater than `id`, in the order of their ids.
    package func rows(after id: UInt64, limit: Int) -> [SessionRow] {
        let rows = table.withLock { $0.rows }
        return rows.keys.filter { $0 > id }.sorted().prefix(limit).compactMap { rows[$0] }
    }

    package var count: Int { table.withLock { $0.rows.count } }

    /// The requests at the agents that are attached here, those of other replicas included.
    var requestsInFlight: Int { rows.reduce(0) { $0 + $1.attachment.requestsInFlight } }

    /// The number of further tokens that claim a host of another one, summed over the hosts.
    package var contestedHosts: Int { router.current.index.contested }

    /// The keep-alive interval for a new session. It grows with the number of sessions, so that pings cost the gateway
    /// the same however many agents are attached.
    package var keepAlive: TimeAmount { Self.keepAlive(sessions: count) }

    package static func keepAlive(sessions: Int) -> TimeAmount {
        let milliseconds = min(max(1_000, sessions / 2), 15_000)
        return .milliseconds(Int64(milliseconds))
    }
}

extension SessionRow {
    /// The attachment of a row of the ``AgentRegistry``.
    package var attachment: Attachment { unsafeDowncast(upstream, to: Attachment.self) }

    /// The replica of a row of the ``ClusterSessions``.
    var replica: RemoteReplica { unsafeDowncast(upstream, to: RemoteReplica.self) }
}

extension RouteTarget {
    /// The service that a request is sent to: that of the route, or the first one of an agent that offers the host.
    func service(of row: SessionRow) -> String { host == nil ? service : row.services[0] }

    /// The attachments of an index that may serve the target.
    func rows(in index: SessionIndex) -> SessionRows {
        host.map { index.rows(host: $0, tokenID: tokenID) } ?? index.rows(agent: agent, service: service)
    }
}
