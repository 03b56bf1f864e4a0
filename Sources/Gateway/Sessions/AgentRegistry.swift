package import HopProtocol
package import NIOCore
import Synchronization
import Transport

/// The attachments of this process. Decisions read an immutable snapshot from any loop; changes swap it.
package final class AgentRegistry: Sendable {
    package typealias Table = AttachmentTable<Attachment>

    package enum Choice {
        case attachment(Attachment)
        /// All are at their limit.
        case busy
        case none
    }

    private struct State {
        var table = Table()
        var snapshot = Snapshot(byService: [:])
    }

    /// What a request reads.
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

    // MARK: A request's question

    /// Chooses an attachment for one attempt.
    ///
    /// - Parameters:
    ///   - tried: ids of attachments that this request was given to already.
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
            load: { $0.hasRoom ? $0.requestsInFlight : nil }
        )
        return switch choice {
        case .candidate(let attachment): .attachment(attachment)
        case .busy: .busy
        case .none: .none
        }
    }

    // MARK: Changes

    /// Takes a place for this run among those that a token may have attached at a time, which it keeps until the last
    /// of its sessions is detached. To be followed by ``attach(_:)``.
    ///
    /// - Parameter limit: runs at most; nil: any number.
    /// - Returns: false when that many others are there.
    package func claim(run: RunID, tokenID: String, limit: Int?) -> Bool {
        state.withLock { $0.table.claim(run: run, tokenID: tokenID, limit: limit) }
    }

    /// The attachments of this token and agent's name.
    package func attachments(tokenID: String, instance: String) -> [Attachment] {
        state.withLock { $0.table.rows(tokenID: tokenID, instance: instance).map(\.member) }
    }

    /// Lets an agent in. Returns the attachments of the same name that were there before.
    package func attach(_ row: Table.Row) -> [Attachment] {
        change(hosts: !row.hosts.isEmpty) { $0.add(row).map(\.member) }
    }

    package func update(id: UInt64, services: [String], hosts: [HostPattern]) {
        change(hosts: true) { _ = $0.update(id: id, services: services, hosts: hosts) }
    }

    package func detach(id: UInt64) {
        change(hosts: true) { table in table.remove(id: id)?.member.end() }
    }

    package func forget(tokenID: String) {
        change(hosts: true) { $0.forget(tokenID: tokenID) }
    }

    private func change<Result: Sendable>(hosts: Bool, _ body: (inout Table) -> Result) -> Result {
        state.withLock { state in
            let result = body(&state.table)
            state.snapshot = Snapshot(byService: state.table.byService)
            if hosts { router.replaceHosts(HostTable(state.table.hosts)) }
            return result
        }
    }

    // MARK: The whole

    package var rows: [Table.Row] { state.withLock { Array($0.table.rows.values) } }
    package var count: Int { state.withLock { $0.table.rows.count } }

    /// The keep-alive for a newcomer: pings cost the gateway the same however many agents there are.
    package var keepAlive: TimeAmount { Self.keepAlive(sessions: count) }

    package static func keepAlive(sessions: Int) -> TimeAmount {
        let milliseconds = min(max(1_000, sessions / 2), 15_000)
        return .milliseconds(Int64(milliseconds))
    }
}
