import Cluster
package import NIOCore
package import Store
import Synchronization

/// Rotation of the cluster's key while replicas and agents keep running: adds a key, waits until every live replica
/// knows it, signs with it and seals every credential again. Another run removes the old keys.
///
/// Each step is one version of cluster.json or of a credential, decided by link(2). An interrupted rotation continues
/// from the state in the store when it is run again, also on another machine and also concurrently.
package final class KeyRotation: Sendable {
    package struct Options: Sendable {
        /// Whether to remove the keys that no longer sign, in the place of a rotation to a new key. A rotation that was
        /// interrupted is finished first.
        package var retiresOld = false
        /// The time within which live replicas have to learn of a key.
        package var timeout = TimeAmount.seconds(60)
        /// The time within which the heartbeat of a live replica moves: three heartbeats.
        package var heartbeatInterval = ReplicaLiveness.interval

        package init() {}
    }

    /// A step that was completed, for the operator.
    package enum Event: Equatable, Sendable {
        case added(String)
        case waiting(for: [String])
        /// Replicas that have not left, and whose heartbeat did not move for this time at least.
        case notAwaited([String], silence: TimeAmount)
        case signing(String)
        case resealed(Int)
        /// A credential that none of the keys has sealed; gateways do not accept it either.
        case skipped(StoreKey, String)
        case retired(String)
    }

    private let store: any Store
    private let members = ObservedReplicas()
    private let mounted: (@Sendable () async throws(StoreError) -> [ClusterKey])?
    private let options: Options
    private let report: @Sendable (Event) -> Void

    /// - Parameters:
    ///   - mounted: Reads the mounted keys; `nil` if the key is on the volume.
    ///   - report: Called after every step.
    package init(
        store: any Store,
        mounted: (@Sendable () async throws(StoreError) -> [ClusterKey])?,
        options: Options,
        report: @escaping @Sendable (Event) -> Void
    ) {
        self.store = store
        self.mounted = mounted
        self.options = options
        self.report = report
    }

    /// Performs the remaining steps of the rotation.
    ///
    /// - Returns: The cluster after the last step.
    /// - Throws: `stalled` if a live replica does not learn of a key in time.
    package func run() async throws(StoreError) -> ClusterIdentity {
        let observation = store.observeMembers { [members] in members.record($0) }
        defer { withExtendedLifetime(observation) {} }
        if mounted != nil { return try await resealWithMountedKeys() }
        var cluster = try await read()
        if cluster.rotatingTo == nil, options.retiresOld {
            guard cluster.listedKeys.count > 1 || !cluster.retiredKeys.isEmpty else {
                throw StoreError(
                    .refused,
                    "cluster.json",
                    "lists one key, \(cluster.keyring.signing.id): there is no old key to retire; a new key is made by "
                        + "hopgate cluster rotate-key without --retire-old"
                )
            }
        } else if cluster.rotatingTo == nil {
            // What the key has sealed could not be sealed again, so the operator decides first.
            if let unusable = cluster.unusableKeys.first { throw unusable.problem }
            cluster = try await add(.generate())
            if let new = cluster.rotatingTo { report(.added(new.id)) }
        }
        if let new = cluster.rotatingTo {
            if cluster.keyring.signing != new {
                try await wait { replica in replica.keys.contains(new.id) }
                cluster = try await step { cluster throws(StoreError) in
                    let isDue = cluster.rotatingTo == new && cluster.keyring.signing != new
                    return isDue ? try cluster.signing(with: new.id) : nil
                }
                report(.signing(new.id))
            }
            // Before that a replica may still seal with the old key.
            try await waitUntilSigning(new)
            _ = try await reseal(cluster.keyring)
            cluster = try await step { cluster in cluster.rotatingTo == new ? cluster.finishingRotation() : nil }
        }
        return options.retiresOld ? try await retire(cluster) : cluster
    }

    // MARK: Steps

    /// Adds a key for verification, or returns the cluster with the one that another process has added meanwhile. After
    /// a failure no file of the key is left, so that attempts do not leave one each.
    private func add(_ key: ClusterKey) async throws(StoreError) -> ClusterIdentity {
        do throws(StoreError) {
            try await store.createClusterKey(key)
            let cluster = try await step { cluster throws(StoreError) in
                cluster.rotatingTo == nil ? try cluster.adding(key) : nil
            }
            // Another process was faster, so no document names this key.
            if cluster.keyring[key.id] == nil { try? await store.removeClusterKey(key.id) }
            return cluster
        } catch {
            // The document may still come to name the key if the volume did not answer, or names it already.
            let isFinal = !error.isTransient && error.code != .closed
            if isFinal, let cluster = try? await read(), cluster.keyring[key.id] == nil {
                try? await store.removeClusterKey(key.id)
            }
            throw error
        }
    }

    private func retire(_ start: ClusterIdentity) async throws(StoreError) -> ClusterIdentity {
        var cluster = start
        let all = start.keyring
        let old = start.listedKeys.dropFirst()
        guard !old.isEmpty || !start.retiredKeys.isEmpty else { return cluster }
        try await waitUntilSigning(all.signing)
        // A document that could not be sealed again may be genuine under an old key only, and is lost without it.
        if let (place, problem) = try await reseal(all).first {
            let cause = ValueExamination.withRemedy(problem, place, in: store)
            throw StoreError(.refused, place.path, "\(cause); the old keys are kept: run this again after that")
        }
        for id in old.reversed() {
            cluster = try await step { cluster throws(StoreError) in
                let isDue = cluster.keyring.signing == all.signing && cluster.listedKeys.contains(id)
                return isDue ? try cluster.retiring(id) : nil
            }
            guard !cluster.listedKeys.contains(id) else {
                throw StoreError(
                    .busy,
                    ClusterDocument.key.path,
                    "the signing key was changed by another rotation; key \(id) is still valid: run this again"
                )
            }
        }
        let undeleted = try await deleteRetired(&cluster)
        // A command that read the old key earlier may have sealed with it since.
        _ = try await reseal(all)
        if let undeleted { throw undeleted }
        return cluster
    }

    /// Deletes the files of retired keys, also those that an earlier run could not delete.
    ///
    /// - Returns: The failure to delete one of them, which a later run tries again.
    private func deleteRetired(_ cluster: inout ClusterIdentity) async throws(StoreError) -> StoreError? {
        var undeleted: StoreError?
        var deleted: Set<String> = []
        for id in cluster.retiredKeys {
            do throws(StoreError) {
                try await store.removeClusterKey(id)
            } catch {
                if error.code != .notFound {
                    let reason = "is a key that is valid no more and could not be deleted: \(error.reason); "
                    let remedy = "delete the file, or run this again after that"
                    undeleted = StoreError(error.code, store.place(ofClusterKey: id), reason + remedy)
                    continue
                }
            }
            deleted.insert(id)
            report(.retired(id))
        }
        guard !deleted.isEmpty else { return undeleted }
        let confirmed = deleted
        cluster = try await step { cluster in
            confirmed.isDisjoint(with: cluster.retiredKeys) ? nil : cluster.confirmingDeletion(of: confirmed)
        }
        return undeleted
    }

    /// Seals with the first mounted key. The operator changes the mounted secret, this changes what is sealed.
    private func resealWithMountedKeys() async throws(StoreError) -> ClusterIdentity {
        let keyring = try await read().keyring
        try await waitUntilSigning(keyring.signing)
        _ = try await reseal(keyring)
        return try await step { cluster in
            cluster.sealedBy == cluster.keyring.signing.id ? nil : cluster.resealed()
        }
    }

    /// Seals every credential and certificate that is not sealed with the first key again with that key.
    ///
    /// - Returns: The documents that could not be sealed.
    private func reseal(_ keyring: ClusterKeyring) async throws(StoreError) -> [(key: StoreKey, problem: StoreError)] {
        let result = try await Resealing(store: store, keyring: keyring).run()
        report(.resealed(result.count))
        for (key, problem) in result.skipped { report(.skipped(key, problem.description)) }
        return result.skipped
    }

    private func read() async throws(StoreError) -> ClusterIdentity {
        guard let cluster = try await store.readCluster(mounted: try await mounted?()) else {
            throw StoreError(.notFound, "cluster.json", "is not there: the store has no cluster")
        }
        return cluster
    }

    /// Makes one change of cluster.json, and retries it after conflicts with other processes.
    ///
    /// - Parameter change: Returns the next version, or `nil` if there is nothing to do.
    private func step(
        _ change: (ClusterIdentity) throws(StoreError) -> ClusterIdentity?
    ) async throws(StoreError) -> ClusterIdentity {
        try await store.retrying(.clusterDocument) { () throws(StoreError) in
            let cluster = try await read()
            guard let next = try change(cluster) else { return cluster }
            try await store.replace(next)
            return next
        }
    }
}

// MARK: Waiting for replicas

extension KeyRotation {
    /// The interval at which the key files are read and the replicas are examined.
    private static let pause = Duration.seconds(1)

    private func waitUntilSigning(_ key: ClusterKey) async throws(StoreError) {
        try await wait { $0.keys.first == key.id }
    }

    /// Waits until the description of every live replica satisfies a condition.
    private func wait(_ isSatisfied: @Sendable (ReplicaInfo) -> Bool) async throws(StoreError) {
        let began = NIODeadline.now()
        members.restart()
        var reported: [String] = []
        while true {
            let keyring = try await read().keyring
            func name(_ replica: Incarnation, _ info: ReplicaInfo?) -> String {
                info.map { "\($0.name) (\(replica))" } ?? "\(replica)"
            }
            let missing = members.missing { replica, bytes in
                let info = try? ReplicaInfo(bytes, of: replica, with: keyring)
                return info.map(isSatisfied) == true ? nil : name(replica, info)
            }
            let now = NIODeadline.now()
            // Until then a live replica may not have shown that it lives.
            let isKnown = now - began >= options.heartbeatInterval && members.hasListed
            if isKnown, missing.isEmpty {
                let silent = members.newlySilent { name($0, try? ReplicaInfo($1, of: $0, with: keyring)) }
                if !silent.isEmpty { report(.notAwaited(silent, silence: now - began)) }
                return
            }
            guard now - began < max(options.timeout, options.heartbeatInterval) else {
                let reason =
                    isKnown
                    ? "these live replicas do not know the new key yet: \(missing.joined(separator: ", "))"
                    : "the replicas cannot be listed"
                throw StoreError(
                    .stalled,
                    "replicas",
                    "\(reason); nothing is lost: repair or stop them, then run this again"
                )
            }
            if isKnown, missing != reported {
                report(.waiting(for: missing))
                reported = missing
            }
            guard (try? await Task.sleep(for: Self.pause)) != nil else {
                throw StoreError(.closed, "replicas", "the wait was cancelled")
            }
        }
    }
}

/// The replicas that a rotation observes.
private final class ObservedReplicas: Sendable {
    private struct Replica {
        var info: [UInt8]?
        /// The number of times that its heartbeat was seen to move. The first heartbeat may be that of a dead replica.
        var beats = -1
        var state = Heartbeat.State.starting
        var hasProblem = false
        /// Whether it was reported as silent.
        var isReported = false

        var withoutBeats: Replica {
            var replica = self
            replica.beats = min(beats, 0)
            return replica
        }

        /// Whether it is live, as far as is known: one that cannot be read at the moment may be.
        var isLive: Bool { state != .left && (beats > 0 || hasProblem) }
    }

    private struct State {
        var hasListed = false
        var replicas: [Incarnation: Replica] = [:]
    }

    private let state = Mutex(State())

    var hasListed: Bool { state.withLock { $0.hasListed } }

    func record(_ event: MemberEvent) {
        state.withLock { state in
            switch event {
            case .listed(let names):
                state.hasListed = true
                for name in names where state.replicas[name] == nil { state.replicas[name] = Replica() }
            case .joined(let name, let info): state.replicas[name, default: Replica()].info = try? info.get()
            case .status(let name, let status, _, _):
                state.replicas[name, default: Replica()].beats += 1
                state.replicas[name]?.state = status.state
            case .problem(let name, let problem): state.replicas[name, default: Replica()].hasProblem = problem != nil
            case .gone(let name): state.replicas[name] = nil
            case .rows: break
            }
        }
    }

    /// Forgets which replicas have shown that they are live.
    func restart() {
        state.withLock { state in state.replicas = state.replicas.mapValues { $0.withoutBeats } }
    }

    /// Returns the names of the live replicas for which `name` returns one, sorted.
    ///
    /// - Parameter name: Called with a replica and its information.
    func missing(_ name: (Incarnation, [UInt8]) -> String?) -> [String] {
        let live = state.withLock { $0.replicas.filter(\.value.isLive) }
        return live.compactMap { name($0.key, $0.value.info ?? []) }.sorted()
    }

    /// Returns the names of the replicas that have neither left nor shown that they are live, sorted, without those
    /// that an earlier call has returned.
    func newlySilent(_ name: (Incarnation, [UInt8]) -> String) -> [String] {
        let silent = state.withLock { state in
            let silent = state.replicas.filter { !$0.value.isLive && $0.value.state != .left && !$0.value.isReported }
            for replica in silent.keys { state.replicas[replica]?.isReported = true }
            return silent
        }
        return silent.map { name($0.key, $0.value.info ?? []) }.sorted()
    }
}
