import Certificates
import Cluster
package import Formats
import FoundationEssentials
import Glibc
import NIOCore
import Observability
import Store

/// The JSON documents of the admin port about this process. They contain no secrets: no tokens, hashes or keys.
package struct AdminReports: Sendable {
    let name: String
    let version: String
    let started: NIODeadline
    let lifecycle: Lifecycle
    let shared: SharedStore
    let presence: ReplicaPresence
    let watch: ReplicaWatch
    let registry: AgentRegistry
    let connections: @Sendable () -> Int
    let certificates: @Sendable () -> [CertificateEntry]
    /// Returns what an operator should change, given the hosts that agents offer.
    let warnings: @Sendable (Set<HostPattern>) -> [String]

    // MARK: /v1/status

    func status() -> [String: JSONValue] {
        let replicas = ReplicaCounts(watch.replicas, now: .now())
        let agents = registry.rows.map(AgentEntry.init)
        let summary = Self.summary(certificates(), agents)
        let warnings = warnings(Set(agents.lazy.flatMap(\.hosts))).sorted().prefix(AdminPage.worstLimit)
        return summary.merging([
            "name": .string(name),
            "version": .string(version),
            "incarnation": .string("\(presence.incarnation)"),
            "uptime_seconds": .seconds(.now() - started),
            "stage": .string(lifecycle.stage.name),
            "store": .object(store()),
            "cluster": .object(cluster()),
            "replicas": .integer(Int64(replicas.live)),
            "replica_states": .object(
                Dictionary(uniqueKeysWithValues: replicas.counts.map { ($0.key.rawValue, .integer(Int64($0.value))) })
            ),
            "connections": .integer(Int64(connections())),
            "warnings": .array(warnings.map { .string($0) }),
        ]) { $1 }
    }

    /// The number of certificates and attachments by state, and the worst of them.
    package static func summary(_ certificates: [CertificateEntry], _ agents: [AgentEntry]) -> [String: JSONValue] {
        let (now, date) = (NIODeadline.now(), Date())
        return [
            "certificates": .integer(Int64(certificates.count)),
            "certificate_states": AdminPage.counts(certificates.map { $0.condition(now: date) }, \.rawValue),
            "worst_certificates": AdminPage.worst(certificates, rank: { $0.rank(now: date) }) {
                $0.document(now: date)
            },
            "agents": .integer(Int64(agents.count)),
            "agent_states": AdminPage.counts(agents.map(\.state), \.name),
            "worst_agents": AdminPage.worst(agents, rank: \.rank) { $0.document(now: now) },
        ]
    }

    private func store() -> [String: JSONValue] {
        var fields: [String: JSONValue] = ["state": .string(shared.store.state.rawValue)]
        let store = shared.store.diagnostics
        let counts = store.counts
        fields["driver"] = .string(shared.driver.rawValue)
        if shared.driver == .volume { fields["path"] = .string(store.path) }
        fields["round_trip_seconds"] = store.roundTrip.map { .seconds($0) } ?? .null
        fields["last_error"] = (store.failure ?? store.watchFailure).map { .string($0.description) } ?? .null
        fields["refused"] = .object([
            "refused": .integer(Int64(clamping: counts.refused)),
            "too_large": .integer(Int64(clamping: counts.tooLarge)),
            "bad_name": .integer(Int64(clamping: counts.badNames)),
            "corrupt": .integer(Int64(clamping: counts.corrupt)),
        ])
        fields["transient_errors"] = .integer(Int64(clamping: counts.transient))
        fields["conflicts"] = .integer(Int64(clamping: counts.conflicts))
        fields["published"] = .integer(Int64(clamping: counts.published))
        return fields
    }

    private func cluster() -> [String: JSONValue] {
        let cluster = shared.cluster
        let onVolume = shared.driver == .volume ? cluster.keysOnVolume : []
        return [
            "id": .string(cluster.id),
            "format": .integer(ClusterIdentity.format),
            "keys": .array(cluster.keyring.keys.map { .string($0.id) }),
            "key_on_volume": .bool(!onVolume.isEmpty),
            "keys_on_volume": .array(onVolume.map { .string($0) }),
            "rotating_to": cluster.rotatingTo.map { .string($0.id) } ?? .null,
        ]
    }

    // MARK: /v1/replicas

    func replicas() -> [String: JSONValue] {
        let now = NIODeadline.now()
        let own = presence.incarnation
        return [
            "replicas": .array(
                watch.replicas.map { replica -> JSONValue in
                    let state = ReplicaCounts.state(of: replica, now: now)
                    return .object([
                        "incarnation": .string("\(replica.incarnation)"),
                        "self": .bool(replica.incarnation == own),
                        "name": replica.info.map { .string($0.name) } ?? .null,
                        "version": replica.info.map { .string($0.version) } ?? .null,
                        "keys": replica.info.map { .array($0.keys.map { .string($0) }) } ?? .null,
                        "state": .string(state.rawValue),
                        "sessions": replica.status.map { .integer(Int64($0.sessions)) } ?? .null,
                        "silent_seconds": replica.movedAt.map { .seconds(max(.zero, now - $0)) } ?? .null,
                        "problem": replica.problem(in: state).map { .string($0.description) } ?? .null,
                    ])
                }
            )
        ]
    }
}

extension JSONValue {
    /// A duration in seconds, rounded to milliseconds.
    static func seconds(_ duration: TimeAmount) -> JSONValue {
        .number((Double(duration.nanoseconds) / 1e6).rounded() / 1_000)
    }
}

extension Lifecycle.Stage {
    var name: String {
        switch self {
        case .starting: "starting"
        case .active: "active"
        case .draining: "draining"
        }
    }
}

extension Attachment.State {
    var name: String {
        switch self {
        case .active: "active"
        case .suspended: "suspended"
        case .leaving: "leaving"
        case .ended: "ended"
        }
    }
}
