import NIOCore
package import Store
import Synchronization

/// The store of this process and the identity of its cluster.
///
/// Everything that replicas share is read through ``store``. The keys that seal documents are in ``keyring``, which
/// reflects a rotation within two seconds while ``run(onProblem:)`` runs.
package final class SharedStore: Sendable {
    /// The interval at which cluster.json and the mounted keys are read again.
    static let interval = Duration.seconds(1)

    package let store: any Store
    private let keyFile: String?
    private let current: Mutex<ClusterIdentity>

    private init(store: any Store, keyFile: String?, cluster: ClusterIdentity) {
        self.store = store
        self.keyFile = keyFile
        self.current = Mutex(cluster)
    }

    /// The volume below the store, or `nil` with the memory driver.
    package var volume: VolumeStore? { store as? VolumeStore }

    package var cluster: ClusterIdentity { current.withLock { $0 } }
    package var keyring: ClusterKeyring { cluster.keyring }

    // MARK: Opening

    /// Opens the store, and creates the cluster if the store is empty.
    ///
    /// - Parameter disposable: The prefixes whose removed keys are deleted from the volume after some minutes.
    /// - Throws: `stalled` if the volume does not respond within ten seconds.
    package static func open(
        _ configuration: SharedStoreConfiguration,
        disposable: [StoreKey] = []
    ) async throws(StoreError) -> SharedStore {
        switch configuration.driver {
        case .memory:
            return SharedStore(store: MemoryStore(), keyFile: nil, cluster: .ephemeral())
        case .volume:
            let mounted = try configuration.mountedKeys()
            var options = VolumeStore.Options()
            options.disposable = disposable
            let (store, cluster) = try await VolumeStore.open(
                path: configuration.folder,
                mounted: mounted,
                options: options
            )
            return SharedStore(store: store, keyFile: configuration.clusterKeyFile, cluster: cluster)
        }
    }

    /// Opens the store for a command, which needs the volume driver because it has no access to the memory of the running
    /// gateway. Creates the cluster if the store is empty.
    package static func openForCommand(
        _ configuration: SharedStoreConfiguration
    ) async throws(StoreError) -> (shared: SharedStore, volume: VolumeStore) {
        let shared = try await open(configuration)
        guard let volume = shared.volume else { throw onlyInMemory }
        return (shared, volume)
    }

    /// Opens the store for a command that must not create a cluster.
    ///
    /// - Throws: `notFound` if the store has no cluster.
    package static func openExisting(
        _ configuration: SharedStoreConfiguration
    ) async throws(StoreError) -> (shared: SharedStore, volume: VolumeStore) {
        guard configuration.driver == .volume else { throw onlyInMemory }
        let (store, cluster) = try await VolumeStore.openFounded(
            path: configuration.folder,
            mounted: try configuration.mountedKeys()
        )
        return (SharedStore(store: store, keyFile: configuration.clusterKeyFile, cluster: cluster), store)
    }

    private static var onlyInMemory: StoreError {
        StoreError(
            .unsupported,
            "store.driver",
            "is \"memory\": only the running gateway has access to its contents; use \"volume\""
        )
    }

    // MARK: Key rotation

    /// Applies rotations of the cluster's keys until the task is cancelled.
    ///
    /// - Parameter onProblem: Called once for each new problem. The previous keys stay in use.
    package func run(onProblem: @Sendable (StoreError) -> Void) async {
        guard let volume else { return }
        var known: StoreError?
        while !Task.isCancelled {
            do throws(StoreError) {
                let mounted = try await mountedKeys()
                if let cluster = try await volume.readCluster(mounted: mounted) { try apply(cluster) }
                known = nil
            } catch {
                // Transient errors are part of the store's state, which is reported elsewhere.
                if !error.isTransient, error != known { onProblem(error) }
                known = error
            }
            try? await Task.sleep(for: Self.interval)
        }
    }

    /// Reads the mounted keys on a separate thread, since a mounted secret may hang like any volume.
    private func mountedKeys() async throws(StoreError) -> [ClusterKey]? {
        guard let keyFile else { return nil }
        return try await onThread("cluster-key", deadline: .seconds(10), place: keyFile) { () throws(StoreError) in
            try SharedStoreConfiguration.keys(in: keyFile)
        }
    }

    /// - Throws: `foreign` if the volume belongs to another cluster, for example one that was created in an empty mount
    ///   point. The identity that this process has stays in use.
    private func apply(_ cluster: ClusterIdentity) throws(StoreError) {
        let known = current.withLock { current in
            if cluster.id == current.id, cluster.version >= current.version { current = cluster }
            return current.id
        }
        guard cluster.id == known else {
            throw StoreError(
                .foreign,
                volume?.volume.files.root ?? "",
                "belongs to cluster \(cluster.id) and this gateway to \(known); mount the previous volume"
            )
        }
    }

    package func close() { store.close() }
}
