package import Cluster
package import Formats
package import NIOCore
package import Store

/// The result of ``StoreCheck``.
package struct StoreCheckReport: Sendable {
    package struct Replica: Equatable, Sendable {
        package var incarnation: Incarnation
        /// The name, or `nil` if the replica's description cannot be read.
        package var name: String?
        /// The state, or `nil` if the heartbeat cannot be read at the moment.
        package var state: ReplicaCounts.State?
        /// The reason why the heartbeat cannot be read.
        package var problem: String?

        fileprivate var stateText: String { state?.rawValue ?? "unknown" }
    }

    package var path: String
    /// The reasons why gateways cannot use the store, each with its remedy.
    package var problems: [String] = []
    /// The files and values that gateways cannot use, the worst first.
    package var unusable: [UnusableFile] = []
    /// Observations that do not keep gateways from working.
    package var remarks: [String] = []
    package var facts: VolumeFacts?
    package var selfTest: SelfTestReport?
    package var timings: [StoreTiming] = []
    /// The cluster, or `nil` if there is none yet or it cannot be read.
    package var cluster: ClusterIdentity?
    package var credentials = ValueCount()
    package var certificates = ValueCount()
    /// The accounts at CAs.
    package var accounts = ValueCount()
    /// The leases that were not released.
    package var leases: [LeaseFinding] = []
    package var replicas: [Replica] = []

    package init(path: String) {
        self.path = path
    }

    /// Whether gateways can use the store, though not every value in it.
    package var isUsable: Bool { problems.isEmpty }
    package var isFaultless: Bool { problems.isEmpty && unusable.isEmpty }
}

extension StoreCheckReport {
    /// - Parameter all: Whether all files that cannot be used are listed, not only the worst.
    package func json(all: Bool = false) -> [String: JSONValue] {
        [
            "path": .string(path),
            "usable": .bool(isUsable),
            "problems": .array(problems.map { .string($0) }),
            "unusable": .array(
                unusable.prefix(all ? unusable.count : Self.linesPerList).map { file in
                    .object([
                        "key": file.key.map { .string($0.path) } ?? .null,
                        "path": .string(file.path),
                        "reason": .string(file.reason),
                        "version_in_use": file.versionInUse.map { .integer(Int64(clamping: $0)) } ?? .null,
                    ])
                }
            ),
            "unusable_count": .integer(Int64(unusable.count)),
            "remarks": .array(remarks.map { .string($0) }),
            "volume": facts.map { facts in
                .object([
                    "type": .string(facts.type),
                    "read_only": .bool(facts.isReadOnly),
                    "bytes": .integer(Int64(clamping: facts.bytes)),
                    "free_bytes": .integer(Int64(clamping: facts.freeBytes)),
                    "inodes": facts.inodes.map { .integer(Int64(clamping: $0)) } ?? .null,
                    "free_inodes": facts.freeInodes.map { .integer(Int64(clamping: $0)) } ?? .null,
                ])
            } ?? .null,
            "abilities": .array(
                (selfTest?.steps ?? []).map { step in
                    .object([
                        "name": .string(step.name),
                        "works": .bool(step.problem == nil),
                        "problem": step.problem.map { .string($0) } ?? .null,
                    ])
                }
            ),
            "times": .array(
                timings.map { timing in
                    .object([
                        "operation": .string(timing.operation),
                        "min_ms": .number(Self.milliseconds(timing.minimum)),
                        "median_ms": .number(Self.milliseconds(timing.median)),
                        "max_ms": .number(Self.milliseconds(timing.maximum)),
                    ])
                }
            ),
            "cluster": cluster.map { cluster in
                .object([
                    "id": .string(cluster.id),
                    "format": .integer(ClusterIdentity.format),
                    "keys": .array(cluster.keyring.keys.map { .string($0.id) }),
                    "key_on_volume": .bool(cluster.isKeyOnVolume),
                    "keys_on_volume": .array(cluster.keysOnVolume.map { .string($0) }),
                    "credentials": .integer(Int64(credentials.count)),
                    "certificates": .integer(Int64(certificates.count)),
                    "acme_accounts": .integer(Int64(accounts.count)),
                    "counts_complete": .bool([credentials, certificates, accounts].allSatisfy(\.isComplete)),
                ])
            } ?? .null,
            "leases": .array(
                leases.map { lease in
                    .object([
                        "name": .string(lease.name), "holder": .string(lease.holder),
                        "ttl_seconds": .integer(lease.timeToLive.nanoseconds / 1_000_000_000),
                    ])
                }
            ),
            "replicas": .array(
                replicas.map { replica in
                    .object([
                        "incarnation": .string("\(replica.incarnation)"),
                        "name": replica.name.map { .string($0) } ?? .null,
                        "state": .string(replica.stateText),
                        "problem": replica.problem.map { .string($0) } ?? .null,
                    ])
                }
            ),
        ]
    }

    /// Converts a duration to milliseconds, rounded to microseconds.
    package static func milliseconds(_ duration: TimeAmount) -> Double {
        (Double(duration.nanoseconds) / 1e3).rounded() / 1e3
    }
}

// MARK: Text

extension StoreCheckReport {
    /// Renders the report for people: sections of lines, with the verdict last.
    ///
    /// - Parameters:
    ///   - all: Whether all files that cannot be used are listed, not only the worst.
    ///   - table: Renders rows of cells as aligned columns.
    package func text(all: Bool = false, table: ([[String]]) -> String) -> String {
        var sections: [String] = [table(overview())]
        if let selfTest {
            let rows = selfTest.steps.map { step in [step.problem == nil ? "  yes" : "  NO", step.name] }
            sections.append("The volume can:\n" + table(rows))
        }
        if !timings.isEmpty {
            let rows = timings.map { timing in
                ["  \(timing.operation)"] + [timing.minimum, timing.median, timing.maximum].map(Self.cell)
            }
            sections.append("Times in ms:\n" + table([["  ", "min", "median", "max"]] + rows))
        }
        if !replicas.isEmpty {
            let rows = replicas.map { ["  \($0.incarnation)", $0.name ?? "?", $0.stateText] }
            sections.append("Replicas:\n" + table(rows))
        }
        if !leases.isEmpty {
            let rows = leases.prefix(Self.linesPerList).map { ["  \($0.name)", $0.holder] }
            let more = leases.count - rows.count
            let rest = more > 0 ? "\n  and \(more) more" : ""
            sections.append("Leases that are held, or were left by a process that died:\n" + table(rows) + rest)
        }
        if !remarks.isEmpty { sections.append("Worth knowing:\n" + Self.lines(remarks)) }
        if !unusable.isEmpty {
            let listed = unusable.prefix(all ? unusable.count : Self.linesPerList).map(\.description)
            let more = unusable.count - listed.count
            let rest = more > 0 ? "\n  and \(more) more; --all shows them" : ""
            sections.append("Files and values that cannot be used:\n" + Self.lines(listed) + rest)
        }
        if !problems.isEmpty { sections.append("Problems:\n" + Self.lines(problems)) }
        let exception = unusable.count == 1 ? "one file or value" : "\(unusable.count) files and values"
        sections.append(
            !isUsable
                ? "The store cannot be used as it is."
                : isFaultless
                    ? "The store can be used." : "The store can be used, but \(exception) cannot, as listed above."
        )
        return sections.joined(separator: "\n\n")
    }

    /// The highest number of lines of a list.
    private static let linesPerList = 20

    private func overview() -> [[String]] {
        var rows = [["store", path]]
        if let facts = self.facts {
            let free = "\(Self.size(facts.freeBytes)) of \(Self.size(facts.bytes)) free"
            let inodes = facts.freeInodes.map { ", \($0) inodes free" } ?? ""
            rows.append(["volume", "\(facts.type), \(free)\(inodes)\(facts.isReadOnly ? ", read-only" : "")"])
        }
        guard let cluster else { return rows }
        rows.append(["cluster", "\(cluster.id), format \(ClusterIdentity.format)"])
        let places = cluster.keyDescriptions(in: "\(path)/\(VolumeStore.folderName)")
        rows.append(["keys", places.joined(separator: ", ")])
        rows.append([
            "",
            cluster.isKeyOnVolume
                ? "read access to the volume is access to the cluster"
                : "write access to the volume adds neither replicas nor credentials",
        ])
        let gone = replicas.count { $0.state == .dead || $0.state == .left }
        let unknown = replicas.count { $0.state == nil }
        let live = "\(replicas.count - gone - unknown) live, \(gone) dead or left"
        rows.append(["replicas", unknown == 0 ? live : "\(live), \(unknown) unknown"])
        rows.append(["credentials", "\(credentials)"])
        rows.append(["certificates", "\(certificates)"])
        rows.append(["ACME accounts", "\(accounts)"])
        rows.append(["leases", "\(leases.count) not released"])
        return rows
    }

    private static func lines(_ lines: [String]) -> String { lines.map { "  - \($0)" }.joined(separator: "\n") }

    private static func size(_ bytes: UInt64) -> String {
        bytes >= 10 << 30 ? "\(bytes >> 30) GiB" : "\(bytes >> 20) MiB"
    }

    private static func cell(_ duration: TimeAmount) -> String {
        let microseconds = (duration.nanoseconds + 500) / 1_000
        let fraction = String(1_000 + microseconds % 1_000).dropFirst()
        return "\(microseconds / 1_000).\(fraction)"
    }
}
