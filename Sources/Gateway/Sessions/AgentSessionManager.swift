import Cluster
import Credentials
import Formats
import HopProtocol
import Logging
import NIOCore
import Observability
import Store
import Synchronization
import Transport
import Tunnel

/// The dependencies that all agent sessions share, and the operations that concern many sessions: superseding, changes
/// of credentials, and drain. One exists per gateway.
final class AgentSessionManager: Sendable {
    let registry: AgentRegistry
    let credentials: CredentialCache
    let metrics: GatewayMetrics
    let lifecycle: Lifecycle
    let logger: Logger
    /// A random id of this process, sent in WELCOME.
    let incarnation: String
    /// Called with the hosts that an agent offers, for certificates to cover them.
    let hostsChanged: @Sendable ([HostPattern]) -> Void
    /// Reads the credentials of tokens that are not accepted, since they may have been created just now.
    let lookup: StoreLookup
    let refusals = Mutex(RefusalLog())

    init(
        registry: AgentRegistry,
        credentials: CredentialCache,
        store: any Store,
        metrics: GatewayMetrics,
        lifecycle: Lifecycle,
        logger: Logger,
        hostsChanged: @escaping @Sendable ([HostPattern]) -> Void
    ) {
        self.registry = registry
        self.credentials = credentials
        self.metrics = metrics
        self.lifecycle = lifecycle
        self.logger = logger
        self.incarnation = RunID.random().description
        self.hostsChanged = hostsChanged
        lookup = StoreLookup(store: store) { id throws(StoreError) in
            try await credentials.refresh(id: id, within: StoreLookup.timeout)
        }
    }

    // MARK: Superseding

    /// The interval at which a probed session is checked.
    private static let probeInterval = TimeAmount.milliseconds(50)
    /// The shortest time that a probed session has to respond.
    private static let probeMinimum = TimeAmount.milliseconds(500)

    /// Probes an attachment after another one of the same name has been added. It receives no new requests until the
    /// agent responds, and its session is closed if the agent does not. So a dead session does not hold a name, and two
    /// live agents share it.
    ///
    /// Called on any thread.
    func probe(_ older: Attachment) {
        // A leaving attachment receives no new requests anyway, but its streams must not hang on a dead session.
        guard older.move(from: .active, to: .suspended) || older.state == .leaving else { return }
        let session = older.session
        session.loop.execute {
            let probedAt = NIODeadline.now()
            session.ping()
            // A probe timeout is a few round trips; the session gets three of them.
            let wait = max(Self.probeMinimum, session.statistics.rtt * 9)
            self.checkProbe(older, probedAt: probedAt, deadline: probedAt + wait)
        }
    }

    private func checkProbe(_ older: Attachment, probedAt: NIODeadline, deadline: NIODeadline) {
        guard older.state == .suspended || older.state == .leaving else { return }
        let session = older.session
        if let received = session.lastReceived, received > probedAt {
            guard older.move(from: .suspended, to: .active) else { return }
            logger.info("older session alive, name shared", metadata: metadata(older))
        } else if NIODeadline.now() >= deadline {
            logger.notice("silent session superseded", metadata: metadata(older))
            session.close(.superseded, reason: "another attachment of this name took over")
        } else {
            session.loop.scheduleTask(in: Self.probeInterval) {
                self.checkProbe(older, probedAt: probedAt, deadline: deadline)
            }
        }
    }

    // MARK: Credentials

    /// Applies changed credentials to the sessions of their tokens, on the sessions' loops. Requests compare each
    /// stream with the present credential meanwhile. Called on any thread.
    func credentialsChanged(_ changes: CredentialChanges) {
        for id in changes.ended { registry.forgetHosts(tokenID: id) }
        let tokens = changes.ended.union(changes.changed)
        for row in registry.rows where tokens.contains(row.info.tokenID) { row.attachment.credentialChanged() }
    }

    // MARK: Drain

    /// Sends GOAWAY to every agent.
    ///
    /// - Parameters:
    ///   - deadline: The time after which the gateway closes the remaining sessions.
    ///   - spread: The time over which the agents should distribute their reconnections.
    func sendGoaway(deadline: TimeAmount, spread: TimeAmount) {
        let message = Goaway(
            deadlineMilliseconds: UInt64(max(0, deadline.nanoseconds / 1_000_000)),
            spreadMilliseconds: UInt64(max(0, spread.nanoseconds / 1_000_000))
        )
        guard let bytes = try? ControlCodec.encode(.goaway(message)) else { return }
        for row in registry.rows {
            let session = row.attachment.session
            session.loop.execute { session.control.write(bytes) }
        }
    }

    /// The fields that identify an attachment in the log.
    func metadata(_ attachment: Attachment) -> Logger.Metadata {
        [
            "agent": "\(attachment.info.agent)",
            "instance": "\(attachment.info.instance)",
            "token_id": "\(attachment.info.tokenID)",
            "run": "\(attachment.info.run)",
            "session": "\(attachment.id)",
        ]
    }
}
