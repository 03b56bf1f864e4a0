import NIOCore
import Synchronization

/// Shared keys: folders of numbered versions, each made by link(2). Whoever loses reads again and decides again.
extension Volume {
    /// No value may be larger.
    package static let valueLimit = 1 << 20
    /// So many of the newest versions stay, and every version stays for ``minimumAge`` after it was seen superseded.
    static let versionsKept: UInt64 = 8
    static let minimumAge = TimeAmount.minutes(10)
    /// So many keys with old versions are remembered.
    static let supersessionLimit = 65_536
    /// A writer that took longer than this between looking and linking may have met a number that had been freed.
    static let slowestWriter = TimeAmount.minutes(5)

    struct Supersession {
        var newest: UInt64
        var since: NIODeadline
    }

    /// The newest version of a value.
    ///
    /// - Parameter fresh: past the caches of a network file system; otherwise the answer may be a minute old.
    /// - Throws: `notFound` if it was never made or was removed.
    package func read(_ key: StoreKey, fresh: Bool = true) throws(StoreError) -> StoredValue {
        guard let value = try newest(key, fresh: fresh), !Tombstone.isTombstone(value.bytes) else {
            throw StoreError(.notFound, shown(key.path), "there is no such value")
        }
        return value
    }

    /// The keys one level below a prefix, sorted; among them those that were removed.
    package func keys(_ prefix: StoreKey) throws(StoreError) -> [StoreKey] {
        try unsortedKeys(prefix).sorted()
    }

    func unsortedKeys(_ prefix: StoreKey) throws(StoreError) -> [StoreKey] {
        guard prefix.path.utf8.count(where: { $0 == UInt8(ascii: "/") }) + 1 < StoreKey.depthLimit else {
            throw StoreError(.badName, shown(prefix.path), "is too deep for anything to be below it")
        }
        return try (namesIfPresent(in: prefix.path) ?? []).map { prefix.child(listed: $0) }
    }

    /// The newest version of each of these keys of one prefix, removed ones left out; for a first look at thousands of
    /// them.
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

    /// One listing and one file, when nothing is in the way. (To look for the next version by its name would be cheaper,
    /// and would leave "not found" in the cache of a network file system just when that version is made.)
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

    /// Makes a value that is not there. Returns its version.
    package func create(_ key: StoreKey, _ bytes: [UInt8]) throws(StoreError) -> UInt64 {
        try requireValue(bytes, key)
        try ensureFolder(key.path)
        for _ in 0..<Self.attempts {
            let newest = try newest(key, fresh: true)
            if let newest, !Tombstone.isTombstone(newest.bytes) {
                throw StoreError(.exists(newest: newest.version), shown(key.path), "is there already")
            }
            do {
                return try add(key, after: newest?.version ?? 0, bytes)
            } catch {
                // Somebody was faster: perhaps with a value, perhaps with its removal.
                guard case .conflict = error.code else { throw error }
            }
        }
        throw StoreError(.busy, shown(key.path), "others change it all the time; try again")
    }

    /// Writes the version after `version`, if that is the newest. Returns the new version.
    package func replace(
        _ key: StoreKey,
        expecting version: UInt64,
        _ bytes: [UInt8]
    ) throws(StoreError) -> UInt64 {
        try requireValue(bytes, key)
        guard let newest = try newest(key, fresh: true), !Tombstone.isTombstone(newest.bytes) else {
            throw StoreError(.notFound, shown(key.path), "there is no such value")
        }
        guard newest.version == version else { throw conflict(key, newest: newest.version) }
        return try add(key, after: version, bytes)
    }

    /// Removes a value by writing a version that says so.
    ///
    /// - Parameter version: the newest has to be this one; nil takes any.
    package func remove(_ key: StoreKey, expecting version: UInt64? = nil) throws(StoreError) {
        for _ in 0..<Self.attempts {
            guard let newest = try newest(key, fresh: true), !Tombstone.isTombstone(newest.bytes) else {
                throw StoreError(.notFound, shown(key.path), "there is no such value")
            }
            if let version, version != newest.version { throw conflict(key, newest: newest.version) }
            do {
                _ = try add(key, after: newest.version, Tombstone.bytes(nonce: nonce()))
                return
            } catch {
                guard case .conflict = error.code, version == nil else { throw error }
            }
        }
        throw StoreError(.busy, shown(key.path), "others change it all the time; try again")
    }
}

extension Volume {
    static let attempts = 16

    /// The newest version whatever it says; nil if there never was one.
    func newest(_ key: StoreKey, fresh: Bool) throws(StoreError) -> StoredValue? {
        for attempt in 0..<3 {
            // A version that was pruned between the listing and the reading, or a listing that was old.
            guard let version = try versions(key, fresh: fresh || attempt > 0).last else { return nil }
            let path = "\(key.path)/\(VersionName.name(of: version, key: key))"
            do {
                return StoredValue(bytes: try readFile(path, limit: Self.valueLimit), version: version)
            } catch {
                guard error.code == .notFound || error.fault?.kind == .stale else { throw error }
            }
        }
        throw StoreError(.transient, shown(key.path), "changes faster than it can be read; try again")
    }

    /// In rising order.
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

    /// Links the version after `version`, which the caller has just seen on top.
    private func add(_ key: StoreKey, after version: UInt64, _ bytes: [UInt8]) throws(StoreError) -> UInt64 {
        let began = now()
        let mine = version + 1
        let path = "\(key.path)/\(VersionName.name(of: mine, key: key))"
        guard try create(path, bytes, .contentAndInode) else {
            throw conflict(key, newest: try versions(key, fresh: true).last ?? mine)
        }
        // The folder may have been swept away between the look and the link; then the version went with it.
        let versions = try versions(key, fresh: true)
        guard versions.contains(mine), let top = versions.last else {
            throw StoreError(.transient, shown(key.path), "was removed at the same moment; try again")
        }
        // A number below the top is free only after it was pruned: whoever was stopped for that long has not won. The
        // versions above a real winner are all there.
        let isWhole = versions.suffix(where: { $0 >= mine }).count == Int(top - mine) + 1
        guard isWhole, now() - began < Self.slowestWriter || top == mine else {
            let name = VersionName.name(of: mine, key: key)
            try? files.unlink("\(key.path)/\(name)")
            throw conflict(key, newest: top)
        }
        count(\.published)
        prune(key, versions)
        note(key)
        return mine
    }

    private func conflict(_ key: StoreKey, newest: UInt64) -> StoreError {
        count(\.conflicts)
        return StoreError(.conflict(newest: newest), shown(key.path), "has been changed meanwhile; read it again")
    }

    private func requireValue(_ bytes: [UInt8], _ key: StoreKey) throws(StoreError) {
        guard bytes.count <= Self.valueLimit else {
            throw StoreError(.tooLarge, shown(key.path), "a value has at most \(Self.valueLimit) bytes")
        }
        precondition(!Tombstone.isTombstone(bytes), "no value of ours looks like a removed one")
    }

    /// Deletes versions that were superseded long ago, the oldest first. What cannot be deleted stays until the next time.
    /// Returns how many were deleted.
    @discardableResult
    func prune(_ key: StoreKey, _ versions: [UInt64], atMost limit: Int = .max) -> Int {
        guard let top = versions.last, versions.count > Self.versionsKept else { return 0 }
        let now = now()
        let old: UInt64? = supersession.withLock { seen in
            if let earlier = seen[key.path] { return now - earlier.since >= Self.minimumAge ? earlier.newest : nil }
            if seen.count >= Self.supersessionLimit { seen.removeAll() }
            seen[key.path] = Supersession(newest: top, since: now)
            return nil
        }
        guard let old else { return 0 }
        let doomed = versions.filter { $0 < old && top - $0 >= Self.versionsKept }
        for version in doomed.prefix(limit) {
            try? files.unlink("\(key.path)/\(VersionName.name(of: version, key: key))")
        }
        guard doomed.count <= limit else { return limit }
        supersession.withLock { seen in
            let isDone = versions.count - doomed.count <= Self.versionsKept
            seen[key.path] = isDone ? nil : Supersession(newest: top, since: now)
        }
        return doomed.count
    }
}

extension Array {
    /// The longest ending whose elements all fit.
    fileprivate func suffix(where fits: (Element) -> Bool) -> ArraySlice<Element> {
        self[(lastIndex { !fits($0) }.map { $0 + 1 } ?? startIndex)...]
    }
}
