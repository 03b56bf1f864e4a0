package import NIOCore
package import Store

/// Changes the cluster's key while replicas and agents go on: add a key, wait until every live replica knows it, sign
/// with it, seal every credential anew; and, if that is wanted, wait again and forget the old keys.
///
/// Each step is one version of cluster.json or of a credential, decided by link(2). Whoever is interrupted runs it again,
/// also on another machine, also twice at a time: it goes on from what the store says.
package final class KeyRotation: Sendable {
    package struct Options: Sendable {
        /// Forget the keys that sign no more.
        package var retiresOld = false
        /// How long live replicas may take to learn of a key.
        package var patience = TimeAmount.seconds(60)
        /// How far apart two looks at heartbeats are.
        package var look = ReplicaLiveness.interval

        package init() {}
    }

    /// What was done, in words for the operator.
    package enum Event: Equatable, Sendable {
        case added(String)
        case waiting(for: [String])
        case signing(String)
        case resealed(Int)
        /// A credential that no key here seals; gateways do not accept it either.
        case skipped(StoreKey, String)
        case retired(String)
    }

    private let store: VolumeStore
    private let mounted: (@Sendable () throws(StoreError) -> [ClusterKey])?
    private let options: Options
    private let report: @Sendable (Event) -> Void

    /// - Parameters:
    ///   - mounted: reads the mounted keys; nil if the key is on the volume.
    ///   - report: told of every step.
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

    /// Until nothing is left to do. Returns the cluster as it is then.
    ///
    /// - Throws: `stalled` if a live replica does not learn of a key in time.
    package func run() async throws(StoreError) -> ClusterIdentity {
        if mounted != nil { return try await resealWithMountedKeys() }
        var cluster = try await read()
        // Old keys that a finished rotation has left need no new key to be retired.
        if cluster.rotatingTo == nil, !options.retiresOld || cluster.keyring.keys.count == 1 {
            cluster = try await step { volume, cluster throws(StoreError) in
                guard cluster.rotatingTo == nil else { return cluster }
                return try volume.addKey(to: cluster)
            }
            if let new = cluster.rotatingTo { report(.added(new.id)) }
        }
        if let new = cluster.rotatingTo {
            if cluster.keyring.signing != new {
                try await wait { card in card.keys.contains(new.id) }
                cluster = try await step { volume, cluster throws(StoreError) in
                    guard cluster.rotatingTo == new, cluster.keyring.signing != new else { return cluster }
                    return try volume.sign(with: new.id, in: cluster)
                }
                report(.signing(new.id))
            }
            // Until then a replica may still seal with the old key.
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
        // What could not be sealed again may be genuine under an old key only; without that key it is lost.
        if let (place, problem) = try await reseal(all).first {
            throw StoreError(
                .refused,
                place.path,
                "\(problem); the old keys stay: mend it or revoke it (hopgate token revoke), then run this again"
            )
        }
        for key in old.reversed() {
            cluster = try await step { volume, cluster throws(StoreError) in
                guard cluster.keyring.signing == all.signing, cluster.keyring[key.id] != nil else { return cluster }
                return try volume.retire(key.id, from: cluster)
            }
            report(.retired(key.id))
        }
        // A command line that had read the old key before may have sealed with it since.
        _ = try await reseal(all)
        return cluster
    }

    /// With mounted keys the operator changes the secret; what is sealed follows here.
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

    /// Seals every credential with the first key that another one seals. Returns those that could not be.
    private func reseal(_ keyring: ClusterKeyring) async throws(StoreError) -> [(key: StoreKey, problem: String)] {
        let sealing = CredentialResealing(store: store, keyring: keyring)
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

    /// One change of cluster.json, made again as long as somebody else is faster.
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
                // Perhaps done, perhaps by others: look again.
                case .conflict, .exists, .unconfirmed: continue
                default: throw error
                }
            }
        }
        throw StoreError(.busy, store.volume.files.root, "others change the cluster's keys all the time; try again")
    }
}

// MARK: Waiting for replicas

extension KeyRotation {
    private func waitUntilSigning(_ key: ClusterKey) async throws(StoreError) {
        try await wait { $0.keys.first == key.id }
    }

    /// Until the card of every live replica says so.
    private func wait(_ isSatisfied: @Sendable (ReplicaInfo) -> Bool) async throws(StoreError) {
        let deadline = NIODeadline.now() + options.patience
        var told: [String] = []
        while true {
            let missing = try await replicas(without: isSatisfied)
            guard !missing.isEmpty else { return }
            guard NIODeadline.now() < deadline else {
                throw StoreError(
                    .stalled,
                    store.volume.files.root,
                    "these live replicas do not know the new key yet: \(missing.joined(separator: ", ")); "
                        + "nothing is lost: see to them, then run this again"
                )
            }
            if missing != told { report(.waiting(for: missing)) }
            told = missing
        }
    }

    private func replicas(without isSatisfied: (ReplicaInfo) -> Bool) async throws(StoreError) -> [String] {
        let vitals = try await store.liveness(interval: options.look)
        let keyring = try await read().keyring
        var missing: [String] = []
        for replica in vitals where replica.isLive {
            var name = "\(replica.replica)"
            do throws(StoreError) {
                let bytes = try await store.info(of: replica.replica)
                let card = try ReplicaInfo(bytes, of: replica.replica, with: keyring)
                if isSatisfied(card) { continue }
                name = "\(card.name) (\(name))"
            } catch {
                // Its card is being written anew, or cannot be read: it has said nothing.
                guard error.code != .stalled, error.code != .closed else { throw error }
            }
            missing.append(name)
        }
        return missing.sorted()
    }
}
