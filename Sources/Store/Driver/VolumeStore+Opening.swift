package import NIOCore

extension VolumeStore {
    /// Opens the store in a folder and finds out which cluster it belongs to; an empty folder founds one.
    ///
    /// - Parameters:
    ///   - path: of `STORE/v1`; it may not exist yet.
    ///   - mounted: the keys of a mounted secret; nil: the key is on the volume.
    ///   - deadline: how long the volume may take. What hangs is left to hang on a thread of its own.
    package static func open(
        path: String,
        mounted: [ClusterKey]?,
        options: Options = Options(),
        deadline: TimeAmount = .seconds(10)
    ) async throws(StoreError) -> (store: VolumeStore, cluster: ClusterIdentity) {
        let (volume, cluster) = try await onThread("store-opener", deadline: deadline, place: path) {
            () throws(StoreError) -> (Volume, ClusterIdentity) in
            let volume = try Volume.at(path, creating: true)
            try volume.prepare()
            return (volume, try volume.openCluster(mounted: mounted))
        }
        return (VolumeStore(volume: volume, options: options), cluster)
    }

    /// The same for whoever has no business to found a cluster.
    ///
    /// - Throws: `notFound` where there is none.
    package static func openFounded(
        path: String,
        mounted: [ClusterKey]?,
        options: Options = Options(),
        deadline: TimeAmount = .seconds(10)
    ) async throws(StoreError) -> (store: VolumeStore, cluster: ClusterIdentity) {
        let (volume, cluster) = try await onThread("store-opener", deadline: deadline, place: path) {
            () throws(StoreError) -> (Volume, ClusterIdentity) in
            let nothing = StoreError(
                .notFound,
                path,
                "there is no cluster yet; the first start of a gateway founds one. Is store.path the gateway's?"
            )
            let volume: Volume
            do throws(StoreError) {
                volume = try Volume.at(path, creating: false)
            } catch {
                throw error.code == .notFound ? nothing : error
            }
            guard let cluster = try volume.readCluster(mounted: mounted) else { throw nothing }
            return (volume, cluster)
        }
        return (VolumeStore(volume: volume, options: options), cluster)
    }
}

extension Volume {
    /// The volume in a folder of this machine.
    ///
    /// - Parameters:
    ///   - path: of `STORE/v1`.
    ///   - creating: makes the folder, and what is missing above it.
    ///   - mayBeLink: the path is that of `STORE` itself, to which the operator's links may lead.
    /// - Throws: `refused` for a symbolic link that may be none.
    package static func at(_ path: String, creating: Bool, mayBeLink: Bool = false) throws(StoreError) -> Volume {
        do {
            return Volume(files: try PosixFileSystem(path: path, creating: creating, mayBeLink: mayBeLink))
        } catch {
            throw StoreError(error)
        }
    }
}
