/// Reading values: a shared key is a folder of numbered versions. The newest is the value, unless it marks the key as
/// removed.
extension Volume {
    /// Returns the newest version of a value.
    ///
    /// - Parameter fresh: Whether to bypass the caches of a network file system; otherwise the result may be a minute
    ///   old.
    /// - Throws: `notFound` if the value was never created or has been removed.
    package func read(_ key: StoreKey, fresh: Bool = true) throws(StoreError) -> StoredValue {
        guard let value = try value(of: newest(key, fresh: fresh), key) else { throw notFound(key) }
        return value
    }

    /// Returns the versions before the newest that are still there, the newest first: none that is older than a removal
    /// or cannot be read.
    package func earlier(_ key: StoreKey) throws(StoreError) -> [StoredValue] {
        let versions = try versions(key, fresh: true)
        var found: [StoredValue] = []
        for version in versions.reversed() {
            do throws(StoreError) {
                let file = try readFile(VersionName.path(of: version, key: key), limit: VersionFile.sizeLimit)
                guard let value = try value(of: StoredVersion(version: version, file: file), key) else { break }
                if version != versions.last { found.append(value) }
            } catch {
                // The version cannot be used, or was pruned meanwhile.
                if error.isTransient { throw error }
            }
        }
        return found
    }

    /// Decodes a version. Returns `nil` if there is none, or if it marks the key as removed.
    func value(of version: StoredVersion?, _ key: StoreKey) throws(StoreError) -> StoredValue? {
        guard let version else { return nil }
        do {
            let file = try VersionFile(
                version.file,
                place: displayPath(VersionName.path(of: version.version, key: key))
            )
            return file.isRemoved
                ? nil : StoredValue(bytes: file.bytes, version: version.version, epoch: file.epoch)
        } catch {
            count(\.corrupt)
            if let exhaustion = StoreNumber.exhaustion(of: error.place) { throw exhaustion }
            throw error.code == .corrupt ? error.adding(StoreLayout.remedy(for: key)) : error
        }
    }

    /// Returns the keys one level below a prefix, sorted, including removed ones.
    package func keys(_ prefix: StoreKey) throws(StoreError) -> [StoreKey] {
        try unsortedKeys(prefix).sorted()
    }

    func unsortedKeys(_ prefix: StoreKey) throws(StoreError) -> [StoreKey] {
        guard prefix.depth < StoreKey.depthLimit else {
            throw StoreError(.badName, displayPath(prefix.path), "is too deep: nothing can be below it")
        }
        guard let names = try namesIfPresent(in: prefix.path) else {
            if StoreLayout.folders.contains(prefix.path) { try requireValues() }
            return []
        }
        return names.map { prefix.child(listed: $0) }
    }

    /// Returns the newest version of each of the given keys of one prefix without the removed ones, for an initial load
    /// of thousands of values.
    func readAll(_ keys: ArraySlice<StoreKey>, in prefix: StoreKey) throws(StoreError) -> [StoreReading] {
        let folder = try call { () throws(FileFault) in try files.openFolder(prefix.path) }
        var found: [StoreReading] = []
        found.reserveCapacity(keys.count)
        for key in keys {
            do throws(StoreError) {
                guard let value = try value(of: newest(key, known: nil, in: folder), key) else { continue }
                found.append((key, .success(value)))
            } catch {
                found.append((key, .failure(error)))
            }
        }
        return found
    }

    /// Determines the newest version of a key, and reads it unless it is known: one listing and at most one file.
    ///
    /// - Parameter above: The folder of the prefix, if it is open.
    func inspect(_ key: StoreKey, known: UInt64?, in above: (any OpenFolder)? = nil) -> KeyFinding {
        do throws(StoreError) {
            guard let found = try newest(key, known: known, in: above) else { return .success(nil) }
            if found.version == known { return .success(.known) }
            return .success(try value(of: found, key).map { .value($0) } ?? .removed(version: found.version))
        } catch {
            return .failure(error)
        }
    }

    /// Returns the newest version of a key, without its content if it is the known one.
    ///
    /// Probing for the next version by name would be cheaper, but would leave a negative entry in the cache of a
    /// network file system just when that version is created.
    private func newest(
        _ key: StoreKey,
        known: UInt64?,
        in above: (any OpenFolder)?
    ) throws(StoreError) -> StoredVersion? {
        do throws(StoreError) {
            let (folder, listing) = try call { () throws(FileFault) -> ((any OpenFolder)?, FolderListing) in
                guard let folder = try above?.openFolder(key.name) else {
                    return (nil, try files.list(key.path, fresh: true, limit: Self.nameLimit))
                }
                return (folder, try folder.list(limit: Self.nameLimit))
            }
            let names = try names(of: listing, in: key.path)
            if let version = names.lazy.compactMap({ VersionName.version($0, key: key) }).max() {
                if version == known { return StoredVersion(version: version, file: []) }
                let name = VersionName.name(of: version, key: key)
                guard let folder else {
                    let file = try readFile("\(key)/\(name)", limit: VersionFile.sizeLimit)
                    return StoredVersion(version: version, file: file)
                }
                let file = try call { () throws(FileFault) in try folder.open(name) }
                let bytes = try contents(of: file, "\(key)/\(name)", limit: VersionFile.sizeLimit).bytes
                return StoredVersion(version: version, file: bytes)
            }
        } catch {
            guard error.code == .notFound || error.fault?.kind == .stale else { throw error }
        }
        // No such key, a stale listing, or a version that was pruned meanwhile.
        return try newest(key, fresh: true)
    }

    /// Returns the newest version, removals included, or `nil` if there never was one.
    func newest(_ key: StoreKey, fresh: Bool) throws(StoreError) -> StoredVersion? {
        for attempt in 0..<3 {
            // Repeated if the version was pruned between listing and reading, or if the listing was stale.
            guard let version = try versions(key, fresh: fresh || attempt > 0).last else { return nil }
            let path = VersionName.path(of: version, key: key)
            do throws(StoreError) {
                let file = try readFile(path, limit: VersionFile.sizeLimit)
                // The folder of a removed key may have been moved away since its name was cached.
                if fresh, attempt == 0, VersionFile.isRemoval(file) {
                    try revalidate(Self.folder(of: key.path))
                    continue
                }
                return StoredVersion(version: version, file: file)
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

    func notFound(_ key: StoreKey) -> StoreError {
        StoreError(.notFound, displayPath(key.path), "there is no such value")
    }
}
