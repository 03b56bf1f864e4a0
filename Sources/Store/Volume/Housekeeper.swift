package import NIOCore

/// Deletes what nobody needs any more: tombs, temporary files of processes that died, folders of removed keys, old
/// versions of values. Each only ten minutes after this process saw it first, on its own monotonic clock; several replicas
/// may do so at once.
///
/// Belongs to one thread.
package final class Housekeeper {
    package static let minimumAge = TimeAmount.minutes(10)
    /// So many names are remembered; what is beyond waits for the next round.
    private static let memoryLimit = 65_536

    private let volume: Volume
    /// Prefixes whose removed keys are deleted for good. A key of theirs should not be made again; one that is made
    /// again at the moment when its folder goes is put back, and may be missing for that moment.
    private let prefixes: [StoreKey]
    private var firstSeen: [String: NIODeadline] = [:]
    private var pruning = VersionPruning()

    package init(volume: Volume, removedUnder prefixes: [StoreKey] = []) {
        self.volume = volume
        self.prefixes = prefixes
    }

    /// Looks once; to be called about once a minute. Returns how many things were deleted.
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
                putAway(key)
            } else {
                volume.erase(path)
            }
            deleted += 1
        }
        firstSeen = seen
        return deleted + pruning.sweep(volume)
    }

    /// What cannot be read for a reason of its own, since others may write it for one, stays and keeps nothing else from
    /// being swept.
    private func isRemoved(_ key: StoreKey) throws(StoreError) -> Bool {
        do throws(StoreError) {
            return try volume.newest(key, fresh: true).map { Tombstone.isTombstone($0.bytes) } ?? false
        } catch {
            guard !error.isTransient else { throw error }
            return false
        }
    }

    /// First out of the way in one step; it is erased as a tomb.
    ///
    /// A writer may have made the key again after we looked: of its version, which it may have seen in its place, nothing
    /// may be lost. Whoever links later finds no folder and begins a new one; then that one counts.
    private func putAway(_ key: StoreKey) {
        let tomb = "\(Volume.tombs)/removed-\(volume.nonce())"
        guard (try? volume.files.rename(key.path, to: tomb)) != nil else { return }
        guard let names = try? volume.names(in: tomb, fresh: true),
            let top = names.compactMap({ VersionName.version($0, key: key) }).max(),
            let bytes = try? volume.readFile("\(tomb)/\(VersionName.name(of: top, key: key))", limit: Volume.valueLimit)
        else { return }
        guard !Tombstone.isTombstone(bytes) else { return }
        try? volume.files.rename(tomb, to: key.path)
        try? volume.confirm(folder: Volume.folder(of: key.path))
    }
}
