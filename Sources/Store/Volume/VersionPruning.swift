import NIOCore

/// Deletes superseded versions of all values, a few keys at a time.
///
/// A process that changes a value prunes it too, but most changes are made by commands, which do not run long enough to
/// know which versions are old.
struct VersionPruning {
    /// The highest number of keys per sweep, because a sweep occupies the writer's thread.
    static let keysPerSweep = 256
    /// The time after which a sweep stops.
    private static let sweepTime = TimeAmount.milliseconds(200)
    /// The number of keys that a sweep visits even if it takes longer.
    private static let minimumKeys = 16
    /// The highest number of versions of one key that a sweep deletes.
    private static let versionsPerKey = 256

    /// A source of keys. The sources are visited in turn.
    private enum Source {
        case key(StoreKey)
        case prefix(StoreKey)
    }

    private static let sources: [Source] = [
        .key(.clusterDocument), .prefix("agents"), .prefix("acme/accounts"), .prefix("acme/names"),
        .prefix("acme/orders"),
    ]

    /// The unvisited keys of the current source.
    private var remaining: ArraySlice<StoreKey> = []
    private var nextSource = 0

    /// Continues where the last sweep stopped. Returns the number of deleted versions. Keys that cannot be read now
    /// wait for the next round.
    mutating func sweep(_ volume: Volume) -> Int {
        var deleted = 0
        var visited = 0
        let end = volume.now() + Self.sweepTime
        for _ in 0...Self.sources.count {
            while visited < Self.keysPerSweep, visited < Self.minimumKeys || volume.now() < end,
                let key = remaining.popFirst()
            {
                visited += 1
                // A stale listing names fewer versions than there are, so fewer of them are deleted.
                guard let versions = try? volume.versions(key, fresh: false) else { continue }
                deleted += volume.prune(key, versions, atMost: Self.versionsPerKey)
            }
            guard remaining.isEmpty else { break }
            switch Self.sources[nextSource] {
            case .key(let key): remaining = [key]
            case .prefix(let prefix): remaining = ((try? volume.unsortedKeys(prefix)) ?? [])[...]
            }
            nextSource = (nextSource + 1) % Self.sources.count
        }
        return deleted
    }
}
