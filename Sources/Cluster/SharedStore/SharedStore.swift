package import NIOCore
package import Store
import Synchronization
import Threads

/// The store of this process and the identity of its cluster.
///
/// Everything that replicas share is read through ``store``. The keys that seal documents are in ``keyring``, which
/// reflects a rotation within two seconds while ``run(verifyingAfter:onChange:)`` runs.
package final class SharedStore: Sendable {
    /// The interval at which changes of cluster.json and of the mounted keys are applied.
    private static let interval = Duration.milliseconds(500)

    package let store: any Store
    package let driver: SharedStoreConfiguration.Driver
    /// The configured time to live of leases.
    package let leaseTime: TimeAmount
    /// Whether this process has founded the cluster.
    package let isFounder: Bool
    /// The file of a mounted secret, and the keys that it contained at the start.
    private let mounted: (path: String, keys: [ClusterKey])?
    private let current: Mutex<ClusterIdentity>

    private init(
        store: any Store,
        _ configuration: SharedStoreConfiguration,
        mounted: [ClusterKey]?,
        cluster: ClusterIdentity,
        isFounder: Bool = false
    ) {
        self.store = store
        self.driver = configuration.driver
        self.leaseTime = configuration.leaseTTL
        self.mounted = configuration.clusterKeyFile.flatMap { path in mounted.map { (path, $0) } }
        self.isFounder = isFounder
        self.current = Mutex(cluster)
    }

    package var cluster: ClusterIdentity { current.withLock { $0 } }
    package var keyring: ClusterKeyring { cluster.keyring }

    // MARK: Opening

    /// Opens the store, and founds the cluster if the store is empty and the configuration names no cluster.
    ///
    /// - Throws: `stalled` if the volume does not respond within ten seconds, `foreign` if the store belongs to another
    ///   cluster than the configured one.
    package static func open(_ configuration: SharedStoreConfiguration) async throws(StoreError) -> SharedStore {
        let driver = configuration.driver
        let options = driver == .memory ? VolumeStore.Options.inMemory : VolumeStore.Options()
        if configuration.cluster != nil {
            let shared = try await openExisting(configuration, options)
            do throws(StoreError) {
                try await configuration.requireStartable(isFounding: false)
                return shared
            } catch {
                shared.close()
                throw error
            }
        }
        let mounted = try await configuration.mountedKeys()
        let opened: (store: VolumeStore, cluster: ClusterIdentity, isFounder: Bool)
        do throws(StoreError) {
            opened = try await VolumeStore.open(
                path: driver == .memory ? nil : configuration.folder,
                mounted: mounted,
                options: options
            )
        } catch {
            throw configuration.explained(error)
        }
        return SharedStore(
            store: opened.store,
            configuration,
            mounted: mounted,
            cluster: opened.cluster,
            isFounder: opened.isFounder
        )
    }

    /// Opens the store for a command, which needs the volume driver because it has no access to the memory of the
    /// running gateway. Founds the cluster if the store is empty and the operator has named its folder.
    package static func openForCommand(
        _ configuration: SharedStoreConfiguration
    ) async throws(StoreError) -> SharedStore {
        guard configuration.driver == .volume, configuration.isPathExplicit else {
            return try await openExisting(configuration)
        }
        return try await open(configuration)
    }

    /// Opens the store for a caller that must not found a cluster.
    ///
    /// - Throws: `notFound` if the store has no cluster, `foreign` if it belongs to another one than the configured
    ///   one.
    package static func openExisting(
        _ configuration: SharedStoreConfiguration,
        _ options: VolumeStore.Options = VolumeStore.Options()
    ) async throws(StoreError) -> SharedStore {
        guard configuration.driver == .volume else { throw onlyInMemory }
        let remedy =
            if let cluster = configuration.cluster {
                "store.cluster names \(cluster): mount its volume there, or restore a backup"
            } else if configuration.isPathExplicit {
                "the first start of a gateway founds one. Is store.path that of the gateway?"
            } else {
                "this is the default folder, in which only a gateway founds one; start it, or name the gateway's "
                    + "folder (store.path, HOPGATE_STORE_PATH or --store-path)"
            }
        let mounted = try await configuration.mountedKeys()
        let (store, cluster) = try await VolumeStore.openFounded(
            path: configuration.folder,
            mounted: mounted,
            remedy: remedy,
            options: options
        )
        do throws(StoreError) {
            try configuration.require(cluster.id)
        } catch {
            store.close()
            throw error
        }
        return SharedStore(store: store, configuration, mounted: mounted, cluster: cluster)
    }

    /// Opens the folder of a store for a restore, and creates it if it does not exist.
    package static func openForRestore(
        _ configuration: SharedStoreConfiguration
    ) async throws(StoreError) -> any Store {
        guard configuration.driver == .volume else { throw onlyInMemory }
        do throws(StoreError) {
            return try await VolumeStore.openFolder(configuration.folder, creating: true)
        } catch {
            throw configuration.explained(error)
        }
    }

    private static var onlyInMemory: StoreError {
        StoreError(
            .unsupported,
            "store.driver",
            "is \"memory\": the contents exist only in the running gateway, which begins with none at each start; for "
                + "commands set \"volume\", and a store.path that the gateway and they share"
        )
    }

    // MARK: Key rotation

    /// Applies rotations of the cluster's keys until the task is cancelled.
    ///
    /// - Parameters:
    ///   - pause: The number of intervals after which keys in the store are read again although nothing has changed:
    ///     one that was damaged or lost would otherwise be found by the next start.
    ///   - onChange: Called with each new problem, while the previous keys stay in use, and with `nil` when there is
    ///     none any more.
    package func run(
        verifyingAfter pause: Int = 20,
        onChange: @escaping @Sendable (StoreError?) -> Void
    ) async {
        let keys = mounted.map(poll)
        defer { keys?.stop() }
        let isChanged = Atomic(true)
        let watch = store.watch(.only(.clusterDocument)) { batch in
            if !batch.changes.isEmpty { isChanged.store(true, ordering: .relaxed) }
            return []
        }
        defer { watch.cancel() }
        var applied: [ClusterKey]?
        var known: StoreError?
        var reported: StoreError?
        var round = 0
        repeat {
            // Repeated until there is a thread; the failures are counted.
            _ = keys?.start()
            let mounted = keys?.value
            round += 1
            let isDue = round % pause == 0 && cluster.isKeyOnVolume
            if isChanged.exchange(false, ordering: .relaxed) || isDue || known != nil || mounted != applied {
                do throws(StoreError) {
                    if let cluster = try await store.readCluster(mounted: mounted) {
                        try apply(cluster, isMounted: mounted != nil)
                        if let unusable = cluster.unusableKeys.first { throw unusable.problem }
                    }
                    (applied, known) = (mounted, nil)
                } catch {
                    known = error
                }
            }
            let problem = keys?.problem ?? known
            // Transient errors are part of the store's state, which is reported elsewhere.
            if problem != reported, problem?.isTransient != true {
                onChange(problem)
                reported = problem
            }
        } while (try? await Task.sleep(for: Self.interval)) != nil
    }

    /// Reads the mounted keys on a thread of its own, since a mounted secret may hang like any volume.
    private func poll(_ mounted: (path: String, keys: [ClusterKey])) -> PolledValue<[ClusterKey], StoreError> {
        PolledValue(mounted.keys, name: "cluster-key", interval: Self.interval) {
            () throws(StoreError) in try SharedStoreConfiguration.keys(in: mounted.path)
        }
    }

    /// - Throws: `foreign` if the volume belongs to another cluster, for example one that was created in an empty mount
    ///   point, `notFound` if an old key was lost, or the reason why it cannot be used. The identity that this process
    ///   has stays in use.
    private func apply(_ cluster: ClusterIdentity, isMounted: Bool) throws(StoreError) {
        let (known, lost) = current.withLock { current -> (String, ClusterKey?) in
            guard cluster.id == current.id, cluster.version >= current.version else { return (current.id, nil) }
            let mayDrop = isMounted || cluster.version > current.version
            let lost = mayDrop ? nil : current.keyring.keys.first { cluster.keyring[$0.id] == nil }
            if lost == nil { current = cluster }
            return (current.id, lost)
        }
        if let lost {
            if let unusable = cluster.unusableKeys.first(where: { $0.id == lost.id }) { throw unusable.problem }
            throw StoreError(
                .notFound,
                store.place(ofClusterKey: lost.id),
                "is missing: no start can verify what this old key has sealed; extract keys/\(lost.id) from a backup, "
                    + "which is a tar file"
            )
        }
        guard cluster.id == known else {
            throw StoreError(
                .foreign,
                store.diagnostics.path,
                "belongs to cluster \(cluster.id) and this gateway to \(known): nothing is written to it; mount "
                    + "the previous volume, or restart the gateway to join the other cluster"
            )
        }
    }

    package func close() { store.close() }
}
