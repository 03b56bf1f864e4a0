import Cluster
package import NIOCore
package import Store

/// Rotation of the cluster's key while replicas and agents keep running: adds a key, waits until every live replica knows
/// it, signs with it and seals every credential again. If requested it then waits again and removes the old keys.
///
/// Each step is one version of cluster.json or of a credential, decided by link(2). An interrupted rotation continues from
/// the state in the store when it is run again, also on another machine and also concurrently.
package final class KeyRotation: Sendable {
    package struct Options: Sendable {
        /// Whether to remove the keys that no longer sign.
        package var retiresOld = false
        /// The time within which live replicas have to learn of a key.
        package var timeout = TimeAmount.seconds(60)
        /// The time between the two reads that show whether a heartbeat moves.
        package var heartbeatInterval = ReplicaLiveness.interval

        package init() {}
    }

    /// A step that was completed, for the operator.
    package enum Event: Equatable, Sendable {
        case added(String)
        case waiting(for: [String])
        case signing(String)
        case resealed(Int)
        /// A credential that none of the keys has sealed; gateways do not accept it either.
        case skipped(StoreKey, String)
        case retired(String)
    }

    private let store: VolumeStore
    private let mounted: (@Sendable () throws(StoreError) -> [ClusterKey])?
    private let options: Options
    private let report: @Sendable (Event) -> Void

    /// - Parameters:
    ///   - mounted: Reads the mounted keys; `nil` if the key is on the volume.
    ///   - report: Called after every step.
    package init(
        store: VolumeStore,
        mounted: (@Sendable () throws(StoreError) -> [ClusterKey])?,
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
        if mounted != nil { return try await resealWithMountedKeys() }
        var cluster = try await read()
        // Retiring the old keys of a finished rotation needs no new key.
        if cluster.rotatingTo == nil, !options.retiresOld || cluster.keyring.keys.count == 1 {
            cluster = try await step { volume, cluster throws(StoreError) in
                guard cluster.rotatingTo == nil else { return cluster }
                return try volume.addKey(to: cluster)
            }
            if let new = cluster.rotatingTo { report(.added(new.id)) }
        }
        if let new = cluster.rotatingTo {
            if cluster.keyring.signing != new {
                try await wait { replica in replica.keys.contains(new.id) }
                cluster = try await step { volume, cluster throws(StoreError) in
                    guard cluster.rotatingTo == new, cluster.keyring.signing != new else { return cluster }
                    return try volume.sign(with: new.id, in: cluster)
                }
                report(.signing(new.id))
            }
            // Before that a replica may still seal with the old key.
            try await waitUntilSigning(new)
            _ = try await reseal(cluster.keyring)
            cluster = try await step { volume, cluster throws(StoreError) in
                guard cluster.rotatingTo == new else { return cluster }
                return try volume.finishRotation(in: cluster)
            }
        }
        return options.retiresOld ? try await retire(cluster) : cluster
    }

    // MARK: Steps

    private func retire(_ start: ClusterIdentity) async throws(StoreError) -> ClusterIdentity {
        var cluster = start
        let all = start.keyring
        let old = all.keys.dropFirst()
        guard !old.isEmpty else { return cluster }
        try await waitUntilSigning(all.signing)
        // A document that could not be sealed again may be genuine under an old key only, and is lost without it.
        if let (place, problem) = try await reseal(all).first {
            throw StoreError(
                .refused,
                place.path,
                "\(problem); the old keys are kept: repair or remove it (hopgate token revoke, hopgate cert remove), then run "
                    + "this again"
            )
        }
        for key in old.reversed() {
            cluster = try await step { volume, cluster throws(StoreError) in
                guard cluster.keyring.signing == all.signing, cluster.keyring[key.id] != nil else { return cluster }
                return try volume.retire(key.id, from: cluster)
            }
            report(.retired(key.id))
        }
        // A command that read the old key earlier may have sealed with it since.
        _ = try await reseal(all)
        return cluster
    }

    /// Seals with the first mounted key. The operator changes the mounted secret, this changes what is sealed.
    private func resealWithMountedKeys() async throws(StoreError) -> ClusterIdentity {
        var cluster = try await read()
        try await waitUntilSigning(cluster.keyring.signing)
        _ = try await reseal(cluster.keyring)
        cluster = try await step { volume, cluster throws(StoreError) in
            guard cluster.sealedBy != cluster.keyring.signing.id else { return cluster }
            return try volume.resealCluster(cluster)
        }
        return cluster
    }

    /// Seals every credential and certificate that is not sealed with the first key again with that key.
    ///
    /// - Returns: The documents that could not be sealed.
    private func reseal(_ keyring: ClusterKeyring) async throws(StoreError) -> [(key: StoreKey, problem: String)] {
        let sealing = Resealing(store: store, keyring: keyring)
        let result = try await sealing.run()
        report(.resealed(result.count))
        for (key, problem) in result.skipped { report(.skipped(key, problem)) }
        return result.skipped
    }

    private func read() async throws(StoreError) -> ClusterIdentity {
        guard let cluster = try await store.readCluster(mounted: try mounted?()) else {
            throw StoreError(.notFound, store.volume.files.root, "there is no cluster yet")
        }
        return cluster
    }

    /// Makes one change of cluster.json, and retries it after conflicts with other processes.
    private func step(
        _ change: @escaping @Sendable (Volume, ClusterIdentity) throws(StoreError) -> ClusterIdentity
    ) async throws(StoreError) -> ClusterIdentity {
        for _ in 0..<16 {
            let keys = try mounted?()
            do {
                return try await store.changeCluster { volume throws(StoreError) in
                    guard let cluster = try volume.readCluster(mounted: keys) else {
                        throw StoreError(.notFound, volume.files.root, "there is no cluster any more")
                    }
                    return try change(volume, cluster)
                }
            } catch {
                switch error.code {
                // The change may have been made, by this process or another one: read again.
                case .conflict, .exists, .unconfirmed: continue
                default: throw error
                }
            }
        }
        throw StoreError(.busy, store.volume.files.root, "the cluster's keys are changed concurrently; try again")
    }
}

// MARK: Waiting for replicas

extension KeyRotation {
    private func waitUntilSigning(_ key: ClusterKey) async throws(StoreError) {
        try await wait { $0.keys.first == key.id }
    }

    /// Waits until the description of every live replica satisfies a condition.
    private func wait(_ isSatisfied: @Sendable (ReplicaInfo) -> Bool) async throws(StoreError) {
        let deadline = NIODeadline.now() + options.timeout
        var reported: [String] = []
        while true {
            let missing = try await replicas(without: isSatisfied)
            guard !missing.isEmpty else { return }
            guard NIODeadline.now() < deadline else {
                throw StoreError(
                    .stalled,
                    store.volume.files.root,
                    "these live replicas do not know the new key yet: \(missing.joined(separator: ", ")); "
                        + "nothing is lost: repair or stop them, then run this again"
                )
            }
            if missing != reported { report(.waiting(for: missing)) }
            reported = missing
        }
    }

    private func replicas(without isSatisfied: (ReplicaInfo) -> Bool) async throws(StoreError) -> [String] {
        let replicas = try await store.liveness(interval: options.heartbeatInterval)
        let keyring = try await read().keyring
        var missing: [String] = []
        for replica in replicas where replica.isLive {
            var name = "\(replica.replica)"
            do throws(StoreError) {
                let bytes = try await store.info(of: replica.replica)
                let info = try ReplicaInfo(bytes, of: replica.replica, with: keyring)
                if isSatisfied(info) { continue }
                name = "\(info.name) (\(name))"
            } catch {
                // The description is being rewritten, or cannot be read: the replica counts as missing.
                guard error.code != .stalled, error.code != .closed else { throw error }
            }
            missing.append(name)
        }
        return missing.sorted()
    }
}
