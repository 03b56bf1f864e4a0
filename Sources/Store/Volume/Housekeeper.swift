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
    /// Prefixes whose removed keys are deleted for good. Their keys must never be made again.
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
        var removed: Set<String> = []
        for prefix in prefixes {
            for key in try volume.keys(prefix) {
                guard let newest = try volume.newest(key, fresh: true), Tombstone.isTombstone(newest.bytes) else {
                    continue
                }
                removed.insert(key.path)
            }
        }
        var seen: [String: NIODeadline] = [:]
        var deleted = 0
        for path in (candidates + removed.sorted()).prefix(Self.memoryLimit) {
            let since = firstSeen[path] ?? now
            guard now - since >= Self.minimumAge else {
                seen[path] = since
                continue
            }
            if removed.contains(path) {
                // First out of the way in one step; it is erased as a tomb.
                try? volume.files.rename(path, to: "\(Volume.tombs)/removed-\(volume.nonce())")
            } else {
                volume.erase(path)
            }
            deleted += 1
        }
        firstSeen = seen
        return deleted + pruning.sweep(volume)
    }
}
