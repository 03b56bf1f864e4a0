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
        let timers = TimerThread()
        defer { timers.close() }
        let result: Swift.Result<(Volume, ClusterIdentity), StoreError> = await withCheckedContinuation {
            continuation in
            let waiter = Waiter(continuation)
            startThread("store-opener") {
                _ = waiter.answer(opened(path, mounted))
            }
            timers.schedule(at: .now() + deadline) {
                let reason = "the volume does not answer; is its server up?"
                _ = waiter.answer(.failure(StoreError(.stalled, path, reason)))
            }
        }
        let (volume, cluster) = try result.get()
        return (VolumeStore(volume: volume, options: options), cluster)
    }

    private static func opened(
        _ path: String,
        _ mounted: [ClusterKey]?
    ) -> Swift.Result<(Volume, ClusterIdentity), StoreError> {
        do throws(StoreError) {
            let files: PosixFileSystem
            do {
                files = try PosixFileSystem(path: path, creating: true)
            } catch {
                throw StoreError(error)
            }
            let volume = Volume(files: files)
            try volume.prepare()
            return .success((volume, try volume.openCluster(mounted: mounted)))
        } catch {
            return .failure(error)
        }
    }
}
