import NIOCore

/// Deletes versions that were superseded long ago of all values, a few keys at a time. Whoever changes a value prunes it
/// too, but most changes are made by commands, which do not live for long enough to know what is old.
struct VersionPruning {
    /// The writer's thread does this: so many keys a sweep,
    static let keysPerSweep = 256
    /// or as many as can be looked at in this time,
    private static let time = TimeAmount.milliseconds(200)
    /// but never fewer than these.
    private static let leastKeys = 16
    /// Of one key so many versions a sweep.
    private static let versionsPerKey = 256

    /// What a listing of keys comes from, one after the other.
    private enum Source {
        case key(StoreKey)
        case prefix(StoreKey)
    }

    private static let sources: [Source] = [
        .key(ClusterDocument.key), .prefix("agents"), .prefix("acme/accounts"), .prefix("acme/names"),
        .prefix("acme/orders"),
    ]

    private var left: ArraySlice<StoreKey> = []
    private var nextSource = 0

    /// Goes on where the last sweep stopped. Returns how many versions were deleted; what cannot be looked at now is left
    /// to the next round.
    mutating func sweep(_ volume: Volume) -> Int {
        var deleted = 0
        var looked = 0
        let end = volume.now() + Self.time
        for _ in 0...Self.sources.count {
            while looked < Self.keysPerSweep, looked < Self.leastKeys || volume.now() < end, let key = left.popFirst() {
                looked += 1
                // A listing that is a minute old names fewer versions than there are, which keeps more of them.
                guard let versions = try? volume.versions(key, fresh: false) else { continue }
                deleted += volume.prune(key, versions, atMost: Self.versionsPerKey)
            }
            guard left.isEmpty else { break }
            switch Self.sources[nextSource] {
            case .key(let key): left = [key]
            case .prefix(let prefix): left = ((try? volume.unsortedKeys(prefix)) ?? [])[...]
            }
            nextSource = (nextSource + 1) % Self.sources.count
        }
        return deleted
    }
}
