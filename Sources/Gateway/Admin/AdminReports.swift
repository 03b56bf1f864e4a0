import Certificates
import Cluster
import Formats
import FoundationEssentials
import Glibc
import NIOCore
import Observability
import Store

/// The JSON documents of the admin port about this process. They contain no secrets: no tokens, hashes or keys.
struct AdminReports: Sendable {
    /// The maximum number of attachments that are listed; further ones are only counted.
    static let agentLimit = 10_000

    let name: String
    let version: String
    let started: NIODeadline
    let lifecycle: Lifecycle
    let shared: SharedStore
    let presence: ReplicaPresence
    let watch: ReplicaWatch
    let registry: AgentRegistry
    let connections: @Sendable () -> Int

    // MARK: /v1/status

    func status() -> [String: JSONValue] {
        [
            "name": .string(name),
            "version": .string(version),
            "incarnation": .string("\(presence.incarnation)"),
            "uptime_seconds": .seconds(.now() - started),
            "stage": .string(lifecycle.stage.name),
            "store": .object(store()),
            "cluster": .object(cluster()),
            "replicas": .integer(Int64(ReplicaCounts(watch.replicas, now: .now()).live)),
            "agents": .integer(Int64(registry.count)),
            "connections": .integer(Int64(connections())),
        ]
    }

    private func store() -> [String: JSONValue] {
        var fields: [String: JSONValue] = ["state": .string(shared.store.state.rawValue)]
        guard let store = shared.volume else {
            fields["driver"] = .string(SharedStoreConfiguration.Driver.memory.rawValue)
            return fields
        }
        let counts = store.volume.counts
        fields["driver"] = .string(SharedStoreConfiguration.Driver.volume.rawValue)
        fields["path"] = .string(store.volume.files.root)
        fields["round_trip_seconds"] = store.health.roundTrip.map { .seconds($0) } ?? .null
        fields["last_error"] = store.health.failure.map { .string($0.description) } ?? .null
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
        return [
            "id": .string(cluster.id),
            "format": .integer(ClusterIdentity.format),
            "keys": .array(cluster.keyring.keys.map { .string($0.id) }),
            "key_on_volume": .bool(cluster.isKeyOnVolume),
            "rotating_to": cluster.rotatingTo.map { .string($0.id) } ?? .null,
        ]
    }

    // MARK: /v1/replicas

    func replicas() -> [String: JSONValue] {
        let now = NIODeadline.now()
        let own = presence.incarnation
        return [
            "replicas": .array(
                watch.replicas.map { replica in
                    .object([
                        "incarnation": .string("\(replica.incarnation)"),
                        "self": .bool(replica.incarnation == own),
                        "name": replica.info.map { .string($0.name) } ?? .null,
                        "version": replica.info.map { .string($0.version) } ?? .null,
                        "keys": replica.info.map { .array($0.keys.map { .string($0) }) } ?? .null,
                        "state": .string(ReplicaCounts.state(of: replica, now: now).rawValue),
                        "sessions": replica.heartbeat.map { .integer(Int64($0.sessions)) } ?? .null,
                        "silent_seconds": replica.movedAt.map { .seconds(now - $0) } ?? .null,
                        "problem": replica.problem.map { .string($0.description) } ?? .null,
                    ])
                }
            )
        ]
    }

    // MARK: /v1/agents

    func agents() -> [String: JSONValue] {
        let rows = registry.rows.sorted { $0.info.id < $1.info.id }
        return [
            "count": .integer(Int64(rows.count)),
            "truncated": .bool(rows.count > Self.agentLimit),
            "agents": .array(
                rows.prefix(Self.agentLimit).map { row in
                    let member = row.member
                    return .object([
                        "session": .integer(Int64(clamping: row.info.id)),
                        "token_id": .string(row.info.tokenID),
                        "name": .string(row.info.agent),
                        "instance": .string(row.info.instance),
                        "run": .string("\(row.info.run)"),
                        "attachment": .integer(Int64(clamping: row.info.number)),
                        "state": .string(member.state.name),
                        "services": .array(row.services.map { .string($0) }),
                        "hosts": .array(row.hosts.map { .string($0.description) }),
                        "attached_seconds": .seconds(.now() - member.attachedAt),
                        "requests_in_flight": .integer(Int64(member.requestsInFlight)),
                    ])
                }
            ),
        ]
    }

    // MARK: /v1/certificates

    /// The certificates that are served, followed by those that were ordered from a CA and are not issued yet.
    static func certificates(_ statuses: [CertificateStatus], _ issuing: [RenewalStatus]) -> [String: JSONValue] {
        let now = Date()
        var left = Dictionary(uniqueKeysWithValues: issuing.map { ($0.key.path, $0) })
        var entries = statuses.map { status -> [String: JSONValue] in
            var fields = status.document(now: now)
            fields["epoch"] = status.generation.map { .integer(Int64(clamping: $0.epoch)) }
            guard status.source == .store, let issued = left.removeValue(forKey: status.place) else { return fields }
            let names = fields["names"]
            // The renewal state has null for what is not known yet, before its first pass; the served certificate knows
            // more.
            fields.merge(issued.report) { $1 == .null ? $0 : $1 }
            // The names of the certificate that is served, not those of the one to be ordered.
            if status.certificate != nil { fields["names"] = names }
            return fields
        }
        for issued in left.values.sorted(by: { $0.key < $1.key }) {
            entries.append(
                issued.report.merging([
                    "source": .string(CertificateSource.store.rawValue), "place": .string(issued.key.path),
                    "state": .string("is not issued yet"),
                ]) { $1 }
            )
        }
        return ["certificates": .array(entries.map { .object($0) })]
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
