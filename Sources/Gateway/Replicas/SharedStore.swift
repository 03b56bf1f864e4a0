import Certificates
import NIOCore
package import Store
import Synchronization

/// The store of this process, and the cluster that it belongs to.
///
/// Everything that replicas share is read through ``store``; the keys that seal documents are in ``keyring``, which
/// follows a rotation within two seconds while ``run()`` goes on.
package final class SharedStore: Sendable {
    /// How often cluster.json and the mounted keys are read again.
    static let interval = Duration.seconds(1)

    package let store: any Store
    private let keyFile: String?
    private let current: Mutex<ClusterIdentity>

    private init(store: any Store, keyFile: String?, cluster: ClusterIdentity) {
        self.store = store
        self.keyFile = keyFile
        self.current = Mutex(cluster)
    }

    /// The volume under the store; nil with the memory driver.
    package var volume: VolumeStore? { store as? VolumeStore }

    package var cluster: ClusterIdentity { current.withLock { $0 } }
    package var keyring: ClusterKeyring { cluster.keyring }

    // MARK: Opening

    /// Opens the store, or founds the cluster when the store is empty.
    ///
    /// - Throws: `stalled` when the volume does not answer within ten seconds.
    package static func open(_ configuration: SharedStoreConfiguration) async throws(StoreError) -> SharedStore {
        switch configuration.driver {
        case .memory:
            return SharedStore(store: MemoryStore(), keyFile: nil, cluster: .ephemeral())
        case .volume:
            let mounted = try configuration.mountedKeys()
            var options = VolumeStore.Options()
            options.disposable = [ChallengeTask.prefix]
            let (store, cluster) = try await VolumeStore.open(
                path: configuration.path + "/v1",
                mounted: mounted,
                options: options
            )
            return SharedStore(store: store, keyFile: configuration.clusterKeyFile, cluster: cluster)
        }
    }

    /// Opens the store for a command line, which cannot see into the memory of another process.
    package static func openForCommand(
        _ configuration: SharedStoreConfiguration
    ) async throws(StoreError) -> (shared: SharedStore, volume: VolumeStore) {
        let shared = try await open(configuration)
        guard let volume = shared.volume else { throw onlyInMemory }
        return (shared, volume)
    }

    /// The same for a command that has no business to found a cluster.
    ///
    /// - Throws: `notFound` where there is none.
    package static func openFounded(
        _ configuration: SharedStoreConfiguration
    ) async throws(StoreError) -> (shared: SharedStore, volume: VolumeStore) {
        guard configuration.driver == .volume else { throw onlyInMemory }
        let (store, cluster) = try await VolumeStore.openFounded(
            path: configuration.path + "/v1",
            mounted: try configuration.mountedKeys()
        )
        return (SharedStore(store: store, keyFile: configuration.clusterKeyFile, cluster: cluster), store)
    }

    private static var onlyInMemory: StoreError {
        StoreError(
            .unsupported,
            "store.driver",
            "is \"memory\": what is in it is known to the running gateway alone; use \"volume\""
        )
    }

    // MARK: Keeping up

    /// Follows rotations of the cluster's keys until the task is cancelled.
    ///
    /// - Parameter onProblem: told once of each new problem; the keys that were known last stay in use.
    package func run(onProblem: @Sendable (StoreError) -> Void) async {
        guard let volume else { return }
        var known: StoreError?
        while !Task.isCancelled {
            do throws(StoreError) {
                let mounted = try await mountedKeys()
                if let cluster = try await volume.readCluster(mounted: mounted) { try take(cluster) }
                known = nil
            } catch {
                // What the volume says of itself is the store's state, not a problem of the keys.
                if !error.isTransient, error != known { onProblem(error) }
                known = error
            }
            try? await Task.sleep(for: Self.interval)
        }
    }

    /// On a thread of its own: a mounted secret may hang like any volume.
    private func mountedKeys() async throws(StoreError) -> [ClusterKey]? {
        guard let keyFile else { return nil }
        return try await onThread("cluster-key", deadline: .seconds(10), place: keyFile) { () throws(StoreError) in
            try SharedStoreConfiguration.keys(in: keyFile)
        }
    }

    /// - Throws: `foreign` for another cluster: the volume of somebody else, or a new one that was founded in an empty
    ///   mount point. What this process knows stays in use.
    private func take(_ cluster: ClusterIdentity) throws(StoreError) {
        let known = current.withLock { current in
            if cluster.id == current.id, cluster.version >= current.version { current = cluster }
            return current.id
        }
        guard cluster.id == known else {
            throw StoreError(
                .foreign,
                volume?.volume.files.root ?? "",
                "belongs to cluster \(cluster.id) and this gateway to \(known); mount the volume that was there before"
            )
        }
    }

    package func close() { store.close() }
}
