import Glibc
import Threads

extension VolumeStore {
    /// The name of the folder in the configured one, which is also the format of its contents.
    package static let folderName = "v2"

    /// Opens the store in a folder and determines which cluster it belongs to; an empty folder founds a new one.
    ///
    /// - Parameters:
    ///   - path: The path of `STORE/v2`, created if it does not exist; `nil` for an empty store in memory.
    ///   - mounted: The keys of a mounted secret, or `nil` if the key is on the volume.
    /// - Returns: Also whether this call has founded the cluster.
    package static func open(
        path: String?,
        mounted: [ClusterKey]?,
        options: Options = Options()
    ) async throws(StoreError) -> (store: VolumeStore, cluster: ClusterIdentity, isFounder: Bool) {
        let store =
            if let path {
                try await openFolder(path, creating: true, options)
            } else {
                inMemory(options)
            }
        do {
            let (cluster, isFounder) = try await store.openCluster(mounted: mounted)
            store.volume.pin(to: cluster)
            return (store, cluster, isFounder)
        } catch {
            store.close()
            throw error
        }
    }

    /// Opens the store in a folder for callers that must not found a cluster.
    ///
    /// - Parameter remedy: The remedy for the error that there is no cluster.
    /// - Throws: `notFound` if there is no cluster, `corrupt` if the store has lost it.
    package static func openFounded(
        path: String,
        mounted: [ClusterKey]?,
        remedy: String = "the first start of a gateway creates one. Is store.path that of the gateway?",
        options: Options = Options()
    ) async throws(StoreError) -> (store: VolumeStore, cluster: ClusterIdentity) {
        let unfounded = StoreError(.notFound, path, "there is no cluster; \(remedy)")
        let store: VolumeStore
        do {
            store = try await openFolder(path, creating: false, options)
        } catch {
            throw error.code == .notFound ? unfounded : error
        }
        do throws(StoreError) {
            guard let cluster = try await store.readCluster(mounted: mounted) else {
                throw try await store.missingCluster() ?? unfounded
            }
            store.volume.pin(to: cluster)
            return (store, cluster)
        } catch {
            store.close()
            throw error
        }
    }

    /// Creates an empty store in the memory of this process, without a cluster.
    package static func inMemory(_ options: Options = .inMemory) -> VolumeStore {
        let volume = Volume(files: MemoryFileSystem())
        do throws(StoreError) {
            try volume.prepare()
        } catch {
            preconditionFailure("an empty file system in memory has room for the folders: \(error)")
        }
        return VolumeStore(volume: volume, options: options)
    }

    /// Opens the store in a folder, whichever cluster it belongs to, for a restore. A call that hangs is abandoned on
    /// its own thread.
    package static func openFolder(
        _ path: String,
        creating: Bool,
        _ options: Options = Options()
    ) async throws(StoreError) -> VolumeStore {
        let volume = try await onThread("store-opener", deadline: options.callDeadline, place: path) {
            () throws(StoreError) in
            let volume = try Volume.at(path, creating: creating)
            if creating { try volume.prepare() }
            return volume
        }
        let store = VolumeStore(volume: volume, options: options)
        // All deadlines depend on the timer thread.
        guard store.timers.start() else { throw StoreError(.busy, path, ThreadLimit.message) }
        return store
    }
}

extension Volume {
    /// The folder of the format before, which this release does not read.
    private static let oldFolderName = "v1"

    /// The problem of a configured path at which there is something else than a folder, with the remedy.
    package static let notFolder = "is not a folder; store.path must name one"

    /// Returns the volume in a local folder.
    ///
    /// - Parameters:
    ///   - path: The path of `STORE/v2`.
    ///   - creating: Whether to create the folder and the missing ones above it.
    ///   - mayBeLink: Whether the path is `STORE` itself, which may be a symbolic link made by the operator.
    /// - Throws: `refused` for a symbolic link where none is allowed, `olderFormat` if there is only a store of the
    ///   format before.
    package static func at(_ path: String, creating: Bool, mayBeLink: Bool = false) throws(StoreError) -> Volume {
        if !mayBeLink { try requireReadableFormat(path) }
        let store = mayBeLink ? path : folder(of: path)
        if let kind = PosixFileSystem.kind(of: store, followingLinks: true), kind != .folder {
            throw StoreError(.refused, store, notFolder)
        }
        do {
            return Volume(files: try PosixFileSystem(path: path, creating: creating, mayBeLink: mayBeLink))
        } catch {
            // A file system such as /proc, in which no folder can be made, gives the same error as a missing folder.
            if creating, error.kind == .missing { throw notCreatable(error.path) }
            // The folder that denies the call is not always the one of the call.
            if creating, [FileFault.Kind.denied, .readOnly].contains(error.kind) { try requireCreatable(path) }
            throw StoreError(error)
        }
    }

    /// Verifies that there is not only a store of the format before.
    ///
    /// - Parameter path: The path of `STORE/v2`.
    package static func requireReadableFormat(_ path: String) throws(StoreError) {
        guard PosixFileSystem.kind(of: path, followingLinks: false) == nil else { return }
        let old = "\(folder(of: path))/\(oldFolderName)"
        guard PosixFileSystem.kind(of: old, followingLinks: false) == nil else {
            throw StoreError(
                .olderFormat,
                old,
                "has a format that this release does not read; move it away: certificates are issued again, and "
                    + "tokens and imported certificates have to be created again"
            )
        }
    }

    /// Verifies what a start requires of the folder of a store before it reads any value, without changing anything:
    /// its kind, format and mode, those of the folders in it, and, if it does not exist, that it can be created.
    ///
    /// - Parameters:
    ///   - path: The path of `STORE/v2`.
    ///   - isFounding: Whether the start founds a cluster, for which it also needs to write to a folder that exists.
    package static func requireStartable(_ path: String, isFounding: Bool) throws(StoreError) {
        let exists = PosixFileSystem.kind(of: path, followingLinks: false) != nil
        if exists {
            try Volume.at(path, creating: false).requireFolders()
        } else {
            try requireReadableFormat(path)
        }
        if isFounding || !exists { try requireCreatable(path) }
    }

    /// Verifies that this process may create the folder of a store, or files in it if it exists, without creating
    /// anything.
    private static func requireCreatable(_ path: String) throws(StoreError) {
        var (existing, missing) = (path, path)
        while !existing.isEmpty, PosixFileSystem.kind(of: existing, followingLinks: true) == nil {
            let number = errno
            guard [ENOENT, ENOTDIR, EACCES].contains(number) else {
                throw StoreError(FileFault(.stat, existing, number))
            }
            // No folder can be created at a link, nor below it.
            if PosixFileSystem.kind(of: existing, followingLinks: false) == .symbolicLink {
                throw number == ENOENT ? notCreatable(missing) : StoreError(FileFault(.mkdir, missing, number))
            }
            missing = existing
            existing = folder(of: existing)
        }
        if existing.isEmpty { existing = path.hasPrefix("/") ? "/" : "." }
        guard PosixFileSystem.kind(of: existing, followingLinks: true) == .folder else {
            throw StoreError(.refused, existing, Volume.notFolder)
        }
        guard access(existing, W_OK | X_OK) != 0 else { return }
        let number = errno
        let store = folder(of: path)
        // Another folder is no remedy for a volume that is mounted without write access.
        guard number == EACCES else { throw StoreError(FileFault(.mkdir, existing == path ? path : store, number)) }
        let fault = FileFault(.mkdir, existing, number)
        guard existing != store, existing != path else { throw StoreError(fault) }
        throw StoreError(
            .denied,
            store,
            "cannot be created: \(fault); set store.path to a folder that this user owns"
        )
    }

    private static func notCreatable(_ place: String) -> StoreError {
        let remedy = "create the folder, or mount the volume there, owned by the user that the gateway runs as"
        return StoreError(.denied, place, "cannot be created; correct store.path, or \(remedy)")
    }
}
