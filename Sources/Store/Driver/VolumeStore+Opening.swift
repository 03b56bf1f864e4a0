package import NIOCore
import Threads

extension VolumeStore {
    /// Opens the store in a folder and determines which cluster it belongs to; an empty folder founds a new one.
    ///
    /// - Parameters:
    ///   - path: The path of `STORE/v2`; created if it does not exist.
    ///   - mounted: The keys of a mounted secret, or `nil` if the key is on the volume.
    ///   - deadline: The longest time that the volume may take. A call that hangs is abandoned on its own thread.
    /// - Returns: Also whether this call has founded the cluster.
    package static func open(
        path: String,
        mounted: [ClusterKey]?,
        options: Options = Options(),
        deadline: TimeAmount = .seconds(10)
    ) async throws(StoreError) -> (store: VolumeStore, cluster: ClusterIdentity, isFounder: Bool) {
        let (volume, cluster, isFounder) = try await onThread("store-opener", deadline: deadline, place: path) {
            () throws(StoreError) -> (Volume, ClusterIdentity, Bool) in
            let volume = try Volume.at(path, creating: true)
            try volume.prepare()
            var isFounder = false
            let cluster = try volume.openCluster(mounted: mounted) { isFounder = true }
            return (volume, cluster, isFounder)
        }
        volume.pin(to: cluster)
        return (try started(volume, options), cluster, isFounder)
    }

    /// Opens the store in a folder for callers that must not found a cluster.
    ///
    /// - Parameter remedy: The remedy for the error that there is no cluster.
    /// - Throws: `notFound` if there is no cluster.
    package static func openFounded(
        path: String,
        mounted: [ClusterKey]?,
        remedy: String = "the first start of a gateway creates one. Is store.path that of the gateway?",
        options: Options = Options(),
        deadline: TimeAmount = .seconds(10)
    ) async throws(StoreError) -> (store: VolumeStore, cluster: ClusterIdentity) {
        let (volume, cluster) = try await onThread("store-opener", deadline: deadline, place: path) {
            () throws(StoreError) -> (Volume, ClusterIdentity) in
            let unfounded = StoreError(.notFound, path, "there is no cluster; \(remedy)")
            let volume: Volume
            do throws(StoreError) {
                volume = try Volume.at(path, creating: false)
            } catch {
                throw error.code == .notFound ? unfounded : error
            }
            guard let cluster = try volume.readCluster(mounted: mounted) else { throw unfounded }
            return (volume, cluster)
        }
        volume.pin(to: cluster)
        return (try started(volume, options), cluster)
    }

    /// Creates the store with its timer thread, which the deadlines of all calls depend on.
    private static func started(_ volume: Volume, _ options: Options) throws(StoreError) -> VolumeStore {
        let store = VolumeStore(volume: volume, options: options)
        guard store.timers.start() else { throw StoreError(.busy, volume.files.root, ThreadLimit.message) }
        return store
    }
}

extension Volume {
    /// The name of the folder in the configured one, which is also the format of its contents.
    package static let folderName = "v2"
    /// The folder of the format before, which this release does not read.
    private static let oldFolderName = "v1"

    /// Returns the volume in a local folder.
    ///
    /// - Parameters:
    ///   - path: The path of `STORE/v2`.
    ///   - creating: Whether to create the folder and the missing ones above it.
    ///   - mayBeLink: Whether the path is `STORE` itself, which may be a symbolic link made by the operator.
    /// - Throws: `refused` for a symbolic link where none is allowed, `olderFormat` if there is only a store of the format
    ///   before.
    package static func at(_ path: String, creating: Bool, mayBeLink: Bool = false) throws(StoreError) -> Volume {
        if !mayBeLink, PosixFileSystem.kind(of: path, followingLinks: false) == nil {
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
        do {
            return Volume(files: try PosixFileSystem(path: path, creating: creating, mayBeLink: mayBeLink))
        } catch {
            throw StoreError(error)
        }
    }
}
