package import NIOCore

/// Deletes what is no longer needed: archived journals, temporary files of processes that died, folders of removed
/// keys, and old versions of values.
///
/// Everything is kept for ten minutes after this process first saw it, on its own monotonic clock; several replicas may
/// delete at once. A ``VolumeStore`` calls ``sweep(now:)`` about once a minute on its writer's thread. Confined to one
/// thread at a time.
package final class GarbageCollector {
    /// The time that an unneeded file is kept.
    package static let minimumAge = TimeAmount.minutes(10)
    /// The highest number of names that are remembered; others wait for a later sweep.
    private static let memoryLimit = 65_536

    private let volume: Volume
    /// The prefixes whose removed keys are deleted for good. Such a key should not be created again: one that is
    /// created at the moment when its folder is deleted is restored, but may be missing for that moment.
    private let prefixes: [StoreKey]
    private var firstSeen: [String: NIODeadline] = [:]
    private var pruning = VersionPruning()

    package init(volume: Volume, removedUnder prefixes: [StoreKey] = []) {
        self.volume = volume
        self.prefixes = prefixes
    }

    /// Lists what may be deleted and deletes what is old enough. Returns the number of deletions.
    package func sweep(now: NIODeadline) throws(StoreError) -> Int {
        var candidates: [String] = []
        for folder in [Volume.tombs, Volume.temporaries] {
            candidates += try volume.names(in: folder, fresh: true).map { "\(folder)/\($0)" }
        }
        var removed: [String: StoreKey] = [:]
        for prefix in prefixes {
            for key in try volume.keys(prefix) where try isRemoved(key) { removed[key.path] = key }
        }
        var seen: [String: NIODeadline] = [:]
        var deleted = 0
        for path in (candidates + removed.keys.sorted()).prefix(Self.memoryLimit) {
            let since = firstSeen[path] ?? now
            guard now - since >= Self.minimumAge else {
                seen[path] = since
                continue
            }
            if let key = removed[path] {
                moveToTombs(key)
            } else {
                volume.erase(path)
            }
            deleted += 1
        }
        firstSeen = seen
        return deleted + pruning.sweep(volume)
    }

    /// Whether a key was removed. A key that cannot be read for a reason of its own, such as its mode, is kept, and
    /// does not stop the sweep.
    private func isRemoved(_ key: StoreKey) throws(StoreError) -> Bool {
        do throws(StoreError) {
            let newest = try volume.newest(key, fresh: true)
            return newest == nil ? false : try volume.value(of: newest, key) == nil
        } catch {
            guard !error.isTransient else { throw error }
            return false
        }
    }

    /// Moves the folder of a removed key to `tombs/` in one step; a later sweep erases it.
    ///
    /// A writer may have created the key again since the check, and its version must not be lost: the folder is then
    /// moved back. A writer that links a version after the move finds no folder and creates a new one, which takes
    /// precedence.
    private func moveToTombs(_ key: StoreKey) {
        let tomb = "\(Volume.tombs)/removed-\(volume.nonce())"
        guard (try? volume.files.rename(key.path, to: tomb)) != nil else { return }
        guard let names = try? volume.names(in: tomb, fresh: true),
            let top = names.compactMap({ VersionName.version($0, key: key) }).max(),
            let file = try? volume.readFile(
                "\(tomb)/\(VersionName.name(of: top, key: key))",
                limit: VersionFile.sizeLimit
            )
        else { return }
        guard (try? VersionFile(file, place: tomb))?.isRemoved != true else { return }
        try? volume.files.rename(tomb, to: key.path)
        try? volume.confirm(folder: Volume.folder(of: key.path))
    }
}
