import HopProtocol
import Logging
import NIOCore
import Observability
import Transport
import Tunnel

/// What all agent sessions share, and what is done to many of them at once.
final class AgentSessionManager: Sendable {
    let registry: AgentRegistry
    let credentials: CredentialCache
    let metrics: GatewayMetrics
    let lifecycle: Lifecycle
    let logger: Logger
    /// Of this process, random.
    let incarnation: String
    /// Told of the hosts that agents serve: the development certificate covers them.
    let hostsChanged: @Sendable ([String]) -> Void

    init(
        registry: AgentRegistry,
        credentials: CredentialCache,
        metrics: GatewayMetrics,
        lifecycle: Lifecycle,
        logger: Logger,
        hostsChanged: @escaping @Sendable ([String]) -> Void
    ) {
        self.registry = registry
        self.credentials = credentials
        self.metrics = metrics
        self.lifecycle = lifecycle
        self.logger = logger
        self.incarnation = RunID.random().description
        self.hostsChanged = hostsChanged
    }

    // MARK: Superseding

    /// How often a probed session is looked at.
    private static let probeInterval = TimeAmount.milliseconds(50)
    private static let probeMinimum = TimeAmount.milliseconds(500)

    /// An attachment of the same name came. The older one gets nothing new until it gives a sign of life, and is ended
    /// if it gives none: so a dead session never holds a name, and two living ones share it.
    func probe(_ older: Attachment) {
        // One that is leaving gets nothing new anyway, but its streams must not hang on a dead session.
        guard older.move(from: .active, to: .suspended) || older.state == .leaving else { return }
        let session = older.session
        session.loop.execute {
            let asked = NIODeadline.now()
            session.ping()
            // A probe timeout is a few round trips; three of them are given.
            let wait = max(Self.probeMinimum, session.statistics.rtt * 9)
            self.check(older, asked: asked, deadline: asked + wait)
        }
    }

    private func check(_ older: Attachment, asked: NIODeadline, deadline: NIODeadline) {
        guard older.state == .suspended || older.state == .leaving else { return }
        let session = older.session
        if let heard = session.lastReceived, heard > asked {
            guard older.move(from: .suspended, to: .active) else { return }
            logger.info("two agents of one name are alive and both serve", metadata: metadata(older))
        } else if NIODeadline.now() >= deadline {
            logger.notice("a silent session is superseded", metadata: metadata(older))
            session.close(.superseded, reason: "another attachment of this name took over")
        } else {
            session.loop.scheduleTask(in: Self.probeInterval) {
                self.check(older, asked: asked, deadline: deadline)
            }
        }
    }

    // MARK: Credentials

    /// Ends sessions whose token is gone or whose secret is not accepted any more, and takes away what a token allows no
    /// more. On any thread.
    func credentialsChanged(_ changes: CredentialChanges) {
        let rows = registry.rows
        let (ended, changed) = (Set(changes.ended), Set(changes.changed))
        if !ended.isEmpty {
            for id in ended { registry.forget(tokenID: id) }
            for row in rows where ended.contains(row.info.tokenID) {
                logger.notice("a token was revoked: its session ends", metadata: metadata(row.member))
                row.member.move(from: .active, to: .leaving)
                row.member.session.close(.authFailed, reason: "the token was revoked")
            }
        }
        for row in rows where changed.contains(row.info.tokenID) {
            guard let credential = credentials.credential(id: row.info.tokenID) else { continue }
            let services = row.services.filter { credential.allows(service: $0) }
            let hosts = row.hosts.filter { credential.allows(host: $0) }
            if !credentials.accepts(row.member.secret, id: row.info.tokenID) {
                logger.notice("a token's secret was replaced: its session ends", metadata: metadata(row.member))
                row.member.move(from: .active, to: .leaving)
                row.member.session.close(.authFailed, reason: "the token's secret was replaced")
            } else if services.isEmpty || credential.name != row.info.agent {
                row.member.session.close(.authFailed, reason: "the token was changed")
            } else if services.count != row.services.count || hosts.count != row.hosts.count {
                logger.notice("a token allows less now", metadata: metadata(row.member))
                registry.update(id: row.info.id, services: services, hosts: hosts)
            }
        }
    }

    // MARK: Drain

    /// Asks every agent to go elsewhere.
    func sendGoaway(deadline: TimeAmount, spread: TimeAmount) {
        let message = Goaway(
            deadlineMilliseconds: UInt64(max(0, deadline.nanoseconds / 1_000_000)),
            spreadMilliseconds: UInt64(max(0, spread.nanoseconds / 1_000_000))
        )
        guard let bytes = try? ControlCodec.encode(.goaway(message)) else { return }
        for row in registry.rows {
            let session = row.member.session
            session.loop.execute { session.control.write(bytes) }
        }
    }

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
