import NIOCore
import Synchronization

/// Values: a shared key is a folder of numbered versions, each created by link(2). A writer that loses a race reads
/// again and decides again.
extension Volume {
    /// No value may be larger.
    package static let valueLimit = 1 << 20
    /// The number of newest versions that are kept. Every version is also kept for ``minimumAge`` after it was
    /// superseded.
    static let versionsKept: UInt64 = 8
    static let minimumAge = TimeAmount.minutes(10)
    /// The highest number of keys whose old versions are remembered.
    static let versionObservationLimit = 65_536
    /// The time between reading and linking beyond which a writer may have met a version number that had been freed.
    static let slowestWriter = TimeAmount.minutes(5)

    /// The newest version of a key at some time: from then on all older versions are known to be superseded.
    struct VersionObservation {
        var newest: UInt64
        var since: NIODeadline
    }
    /// Returns the newest version of a value.
    ///
    /// - Parameter fresh: Whether to bypass the caches of a network file system; otherwise the result may be a minute
    ///   old.
    /// - Throws: `notFound` if the value was never created or has been removed.
    package func read(_ key: StoreKey, fresh: Bool = true) throws(StoreError) -> StoredValue {
        guard let value = try newest(key, fresh: fresh), !Tombstone.isTombstone(value.bytes) else {
            throw StoreError(.notFound, displayPath(key.path), "there is no such value")
        }
        return value
    }

    /// Returns the keys one level below a prefix, sorted, including removed ones.
    package func keys(_ prefix: StoreKey) throws(StoreError) -> [StoreKey] {
        try unsortedKeys(prefix).sorted()
    }

    func unsortedKeys(_ prefix: StoreKey) throws(StoreError) -> [StoreKey] {
        guard prefix.path.utf8.count(where: { $0 == UInt8(ascii: "/") }) + 1 < StoreKey.depthLimit else {
            throw StoreError(.badName, displayPath(prefix.path), "is too deep: nothing can be below it")
        }
        return try (namesIfPresent(in: prefix.path) ?? []).map { prefix.child(listed: $0) }
    }

    /// Returns the newest version of each of the given keys of one prefix without the removed ones, for an initial load
    /// of thousands of values.
    func readAll(_ keys: ArraySlice<StoreKey>, in prefix: StoreKey) throws(StoreError) -> [StoreReading] {
        let folder = try call { () throws(FileFault) in try files.openFolder(prefix.path) }
        var found: [StoreReading] = []
        found.reserveCapacity(keys.count)
        for key in keys {
            do throws(StoreError) {
                guard let value = try newest(key, in: folder), !Tombstone.isTombstone(value.bytes) else { continue }
                found.append((key, .success(value)))
            } catch {
                found.append((key, .failure(error)))
            }
        }
        return found
    }

    /// Returns the newest version of a key: one listing and one file, if there is no race.
    ///
    /// Probing for the next version by name would be cheaper, but would leave a negative entry in the cache of a
    /// network file system just when that version is created.
    private func newest(_ key: StoreKey, in above: any OpenFolder) throws(StoreError) -> StoredValue? {
        do throws(StoreError) {
            let (folder, listing) = try call { () throws(FileFault) in
                let folder = try above.openFolder(key.name)
                return (folder, try folder.list(limit: Self.nameLimit))
            }
            let names = try names(of: listing, in: key.path)
            if let version = names.lazy.compactMap({ VersionName.version($0, key: key) }).max() {
                let name = VersionName.name(of: version, key: key)
                let file = try call { () throws(FileFault) in try folder.open(name) }
                let bytes = try contents(of: file, "\(key.path)/\(name)", limit: Self.valueLimit).bytes
                return StoredValue(bytes: bytes, version: version)
            }
        } catch {
            guard error.code == .notFound || error.fault?.kind == .stale else { throw error }
        }
        return try newest(key, fresh: true)
    }

    /// Creates a value and returns its version.
    ///
    /// - Throws: `exists` if the key has a value.
    package func create(_ key: StoreKey, _ bytes: [UInt8]) throws(StoreError) -> UInt64 {
        try requireValue(bytes, key)
        try ensureFolder(key.path)
        for _ in 0..<Self.attempts {
            let newest = try newest(key, fresh: true)
            if let newest, !Tombstone.isTombstone(newest.bytes) {
                throw StoreError(.exists(newest: newest.version), displayPath(key.path), "already exists")
            }
            do {
                return try add(key, after: newest?.version ?? 0, bytes)
            } catch {
                // Another writer was faster: with a value, or with a removal.
                guard case .conflict = error.code else { throw error }
            }
        }
        throw StoreError(.busy, displayPath(key.path), "is changed too often by other writers; try again")
    }

    /// Writes the version after `version` and returns its number.
    ///
    /// - Throws: `conflict` if `version` is not the newest.
    package func replace(
        _ key: StoreKey,
        expecting version: UInt64,
        _ bytes: [UInt8]
    ) throws(StoreError) -> UInt64 {
        try requireValue(bytes, key)
        guard let newest = try newest(key, fresh: true), !Tombstone.isTombstone(newest.bytes) else {
            throw StoreError(.notFound, displayPath(key.path), "there is no such value")
        }
        guard newest.version == version else { throw conflict(key, newest: newest.version) }
        return try add(key, after: version, bytes)
    }

    /// Removes a value by writing a tombstone as its next version.
    ///
    /// - Parameter version: The version that has to be the newest, or `nil` to remove any version.
    package func remove(_ key: StoreKey, expecting version: UInt64? = nil) throws(StoreError) {
        for _ in 0..<Self.attempts {
            guard let newest = try newest(key, fresh: true), !Tombstone.isTombstone(newest.bytes) else {
                throw StoreError(.notFound, displayPath(key.path), "there is no such value")
            }
            if let version, version != newest.version { throw conflict(key, newest: newest.version) }
            do {
                _ = try add(key, after: newest.version, Tombstone.bytes(nonce: nonce()))
                return
            } catch {
                guard case .conflict = error.code, version == nil else { throw error }
            }
        }
        throw StoreError(.busy, displayPath(key.path), "is changed too often by other writers; try again")
    }
}

extension Volume {
    /// The number of times that a call is repeated after losing a race.
    static let attempts = 16

    /// Returns the newest version, tombstones included, or `nil` if there never was one.
    func newest(_ key: StoreKey, fresh: Bool) throws(StoreError) -> StoredValue? {
        for attempt in 0..<3 {
            // Repeated if the version was pruned between listing and reading, or if the listing was stale.
            guard let version = try versions(key, fresh: fresh || attempt > 0).last else { return nil }
            let path = "\(key.path)/\(VersionName.name(of: version, key: key))"
            do {
                return StoredValue(bytes: try readFile(path, limit: Self.valueLimit), version: version)
            } catch {
                guard error.code == .notFound || error.fault?.kind == .stale else { throw error }
            }
        }
        throw StoreError(.transient, displayPath(key.path), "changes faster than it can be read; try again")
    }

    /// Returns the versions of a key in rising order.
    func versions(_ key: StoreKey, fresh: Bool) throws(StoreError) -> [UInt64] {
        var names: [String]?
        if !fresh {
            do {
                names = try self.names(in: key.path, fresh: false)
            } catch {
                guard error.code == .notFound else { throw error }
            }
        }
        if names == nil { names = try namesIfPresent(in: key.path) }
        return (names ?? []).compactMap { VersionName.version($0, key: key) }.sorted()
    }

    /// Links the version after `version`, which the caller has just seen as the newest.
    private func add(_ key: StoreKey, after version: UInt64, _ bytes: [UInt8]) throws(StoreError) -> UInt64 {
        let began = now()
        let mine = version + 1
        let path = "\(key.path)/\(VersionName.name(of: mine, key: key))"
        guard try create(path, bytes, .contentAndInode) else {
            throw conflict(key, newest: try versions(key, fresh: true).last ?? mine)
        }
        // The folder may have been deleted between reading and linking; then the version is lost.
        let versions = try versions(key, fresh: true)
        guard versions.contains(mine), let top = versions.last else {
            throw StoreError(.transient, displayPath(key.path), "was removed at the same time; try again")
        }
        // A number below the newest is free only after pruning: a writer that was stopped for that long has not won.
        // Above the version of a real winner all versions still exist.
        let isWhole = versions.suffix(where: { $0 >= mine }).count == Int(top - mine) + 1
        guard isWhole, now() - began < Self.slowestWriter || top == mine else {
            let name = VersionName.name(of: mine, key: key)
            try? files.unlink("\(key.path)/\(name)")
            throw conflict(key, newest: top)
        }
        count(\.published)
        prune(key, versions)
        writeHint(for: key)
        return mine
    }

    private func conflict(_ key: StoreKey, newest: UInt64) -> StoreError {
        count(\.conflicts)
        return StoreError(
            .conflict(newest: newest),
            displayPath(key.path),
            "was changed by another writer; read it again"
        )
    }

    private func requireValue(_ bytes: [UInt8], _ key: StoreKey) throws(StoreError) {
        guard bytes.count <= Self.valueLimit else {
            throw StoreError(.tooLarge, displayPath(key.path), "a value has at most \(Self.valueLimit) bytes")
        }
        precondition(!Tombstone.isTombstone(bytes), "a value must not look like a tombstone")
    }

    /// Deletes versions that were superseded at least ``minimumAge`` ago, the oldest first. Versions that cannot be
    /// deleted wait for the next time. Returns the number of deleted versions.
    @discardableResult
    func prune(_ key: StoreKey, _ versions: [UInt64], atMost limit: Int = .max) -> Int {
        guard let top = versions.last, versions.count > Self.versionsKept else { return 0 }
        let now = now()
        let old: UInt64? = versionObservations.withLock { seen in
            if let earlier = seen[key.path] { return now - earlier.since >= Self.minimumAge ? earlier.newest : nil }
            if seen.count >= Self.versionObservationLimit { seen.removeAll() }
            seen[key.path] = VersionObservation(newest: top, since: now)
            return nil
        }
        guard let old else { return 0 }
        let deletable = versions.filter { $0 < old && top - $0 >= Self.versionsKept }
        for version in deletable.prefix(limit) {
            try? files.unlink("\(key.path)/\(VersionName.name(of: version, key: key))")
        }
        guard deletable.count <= limit else { return limit }
        versionObservations.withLock { seen in
            let isDone = versions.count - deletable.count <= Self.versionsKept
            seen[key.path] = isDone ? nil : VersionObservation(newest: top, since: now)
        }
        return deletable.count
    }
}

extension Array {
    /// The longest suffix whose elements all satisfy the predicate.
    fileprivate func suffix(where fits: (Element) -> Bool) -> ArraySlice<Element> {
        self[(lastIndex { !fits($0) }.map { $0 + 1 } ?? startIndex)...]
    }
}
