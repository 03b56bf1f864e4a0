import NIOCore
import Synchronization

/// Writing values: each version is created by link(2). A writer that loses a race reads again and decides again.
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
    /// The number of times that a call is repeated after losing a race.
    static let attempts = 16

    /// The newest version of a key at some time: from then on all older versions are known to be superseded.
    struct VersionObservation {
        var newest: UInt64
        var since: NIODeadline
    }

    /// Changes a value and returns its new version.
    ///
    /// - Parameter epoch: The epoch of the lease under which the value is written, which the caller has just checked,
    ///   or `nil` for a write without a lease.
    /// - Throws: `exists` if a value to be created exists, `notFound` if there is none to be replaced or removed,
    ///   `conflict` if the expected version is not the newest, `fenced` if a later holder of the lease has written,
    ///   `denied` if a private key could not be deleted with its removal, which has taken effect.
    @discardableResult
    package func write(_ key: StoreKey, _ change: ValueWrite, epoch: UInt64? = nil) throws(StoreError) -> UInt64 {
        if let bytes = change.bytes, bytes.count > Self.valueLimit {
            throw tooLarge(key)
        }
        if case .create = change { try ensureFolder(key.path) }
        for _ in 0..<Self.attempts {
            let newest = try change.isUnconditional ? newestOrUnusable(key) : newest(key, fresh: true)
            // A damaged version can be replaced and removed like a value.
            let before = newest.map { (try? VersionFile($0.file, place: "")) ?? VersionFile(nonce: "") }
            if let epoch, let before, before.epoch > epoch {
                throw fenced(key, by: before.epoch, epoch)
            }
            let version = newest?.version ?? 0
            let isPresent = before.map { !$0.isRemoved } ?? false
            switch change {
            case .create:
                guard !isPresent else {
                    throw StoreError(.exists(newest: version), displayPath(key.path), "already exists")
                }
            case .replace(let expected, _), .remove(let expected?):
                guard isPresent else { throw notFound(key) }
                guard expected == version else { throw conflict(key, newest: version) }
            case .put(let bytes):
                guard let newest else {
                    try ensureFolder(key.path)
                    break
                }
                if let file = try undamaged(newest, key), !file.isRemoved, file.bytes == bytes { return version }
            case .remove(nil): guard isPresent else { throw notFound(key) }
            case .removeDamaged:
                guard let newest else { throw notFound(key) }
                guard try undamaged(newest, key) == nil else { throw conflict(key, newest: version) }
            }
            let file = VersionFile(
                isRemoved: change.bytes == nil,
                epoch: epoch ?? before?.epoch ?? 0,
                nonce: nonce(),
                bytes: change.bytes ?? []
            )
            let isAfterRemoval = before?.isRemoved == true
            if try add(key, after: version, file, isAfterRemoval: isAfterRemoval, keepingSecrets: false) {
                return version + 1
            }
            // Another writer was faster: judge its version.
        }
        throw StoreError(.busy, displayPath(key.path), "is changed too often by other writers; try again")
    }

    /// Creates the first versions of several keys in a store that no other process changes. Each is published with its
    /// folder by one rename, which fails if the key has a version; watches get no hint. A first version with this
    /// content is accepted, so that a call can be repeated after it was interrupted.
    ///
    /// - Parameter content: Returns the value of a key.
    /// - Throws: `exists` if a key has or had another value.
    package func createAll(
        _ keys: ArraySlice<StoreKey>,
        content: (StoreKey) throws(StoreError) -> [UInt8]
    ) throws(StoreError) {
        let group = "\(Self.temporaries)/\(nonce())\(Self.groupSuffix)"
        defer { erase(group) }
        let prefixes = Set(keys.map { Self.folder(of: $0.path) })
        for prefix in prefixes { try ensureFolder(prefix) }
        for key in keys {
            let bytes = try content(key)
            guard bytes.count <= Self.valueLimit else { throw tooLarge(key) }
            let file = VersionFile(nonce: nonce(), bytes: bytes)
            let folder = try writeFolder([VersionName.name(of: 1, key: key): file.encoded()], in: group)
            do {
                try files.rename(folder, to: key.path)
            } catch {
                // An earlier call has written the value, or this one and its reply was lost.
                switch error.kind {
                case .exists, .missing, .stale, .unreachable: break
                default: throw storeError(for: error)
                }
                guard let newest = try newest(key, fresh: true) else { throw storeError(for: error) }
                guard try value(of: newest, key) == StoredValue(bytes: bytes, version: 1) else {
                    throw StoreError(
                        .exists(newest: newest.version),
                        displayPath(key.path),
                        "has or had other contents; stop all gateways and restore into an empty folder"
                    )
                }
                // The process that has written it may have ended before it was durable.
                try confirm(folder: key.path)
            }
        }
        for prefix in prefixes { try confirm(folder: prefix) }
    }

    /// Returns the newest version, without content if its file cannot be used, for example because it is open to others
    /// or too large.
    private func newestOrUnusable(_ key: StoreKey) throws(StoreError) -> StoredVersion? {
        do {
            return try newest(key, fresh: true)
        } catch {
            switch error.code {
            case .refused, .tooLarge: break
            default: throw error
            }
            return try versions(key, fresh: true).last.map { StoredVersion(version: $0, file: []) }
        }
    }

    /// Returns the epoch of a key's newest version, or 0 if there is none or it is damaged or cannot be used.
    func epoch(of key: StoreKey) throws(StoreError) -> UInt64 {
        try newestOrUnusable(key).flatMap { try? VersionFile($0.file, place: "") }?.epoch ?? 0
    }

    /// Decodes a version that is about to be overwritten. Returns `nil` if it is damaged.
    ///
    /// - Throws: `newerFormat` if a newer release has written it.
    private func undamaged(_ version: StoredVersion, _ key: StoreKey) throws(StoreError) -> VersionFile? {
        do throws(StoreError) {
            let path = VersionName.path(of: version.version, key: key)
            return try VersionFile(version.file, place: displayPath(path))
        } catch {
            guard error.code != .newerFormat else { throw error }
            return nil
        }
    }

    /// Writes the newest version of a key again, with a new epoch; a key without versions is marked as removed.
    ///
    /// - Throws: `newerFormat` if a newer release has written the newest version, `fenced` if a later epoch has.
    package func raise(_ key: StoreKey, to epoch: UInt64) throws(StoreError) {
        try ensureFolder(key.path)
        for _ in 0..<Self.attempts {
            let newest = try newestOrUnusable(key)
            var file = VersionFile(isRemoved: newest == nil, epoch: epoch, nonce: nonce())
            if let newest {
                // A damaged or unusable version stays what it is: a value that its readers refuse.
                let before =
                    try undamaged(newest, key)
                    ?? VersionFile(nonce: "", bytes: Array(newest.file.prefix(Self.valueLimit)))
                guard before.epoch < epoch else { throw fenced(key, by: before.epoch, epoch) }
                file = VersionFile(isRemoved: before.isRemoved, epoch: epoch, nonce: nonce(), bytes: before.bytes)
            }
            // This version has the content of its predecessor: the one before stays, too.
            let isAfterRemoval = newest != nil && file.isRemoved
            if try add(
                key,
                after: newest?.version ?? 0,
                file,
                isAfterRemoval: isAfterRemoval,
                keepingSecrets: true
            ) {
                return
            }
        }
        throw StoreError(.busy, displayPath(key.path), "is changed too often by other writers; try again")
    }

    private func tooLarge(_ key: StoreKey) -> StoreError {
        StoreError(.tooLarge, displayPath(key.path), "a value has at most \(Self.valueLimit) bytes")
    }

    private func fenced(_ key: StoreKey, by newer: UInt64, _ epoch: UInt64) -> StoreError {
        let reason = "epoch \(newer) has written it; the lease of epoch \(epoch) was lost"
        return StoreError(.fenced, displayPath(key.path), reason)
    }

    /// Links the version after `version`, which the caller has just seen as the newest. Returns `false` if another
    /// writer has linked it.
    private func add(
        _ key: StoreKey,
        after version: UInt64,
        _ file: VersionFile,
        isAfterRemoval: Bool,
        keepingSecrets: Bool
    ) throws(StoreError) -> Bool {
        let began = now()
        let mine = try StoreNumber.next(after: version, in: displayPath(VersionName.path(of: version, key: key)))
        let path = VersionName.path(of: mine, key: key)
        let isSecret = StoreLayout.isSecret(key)
        let suffix = Self.temporarySuffix(for: key)
        guard try create(path, file.encoded(), suffix: suffix) else {
            count(\.conflicts)
            return false
        }
        // The folder may have been moved away between reading and linking; then the version is lost, although a cached
        // name still leads to it.
        if isAfterRemoval || now() - began >= Self.slowestWriter { try revalidate(Self.folder(of: key.path)) }
        let versions = try versions(key, fresh: true)
        guard versions.contains(mine), let top = versions.last else {
            throw StoreError(.transient, displayPath(key.path), "was removed at the same time; try again")
        }
        // The number of a version with a secret is free again soon.
        if top > mine, try !isRegular(key, mine, versions) || isSecret || now() - began >= Self.slowestWriter {
            try? files.unlink(path)
            throw StoreError(
                .unconfirmed,
                displayPath(key.path),
                "was changed by other writers at the same time; read it again before repeating the change"
            )
        }
        count(\.published)
        var undeleted: String?
        if file.isRemoved, top == mine {
            // A value that was removed may be a secret.
            unlink(versions.dropLast(), of: key)
            let paths = versions.dropLast().map { VersionName.path(of: $0, key: key) }
            if isSecret { undeleted = paths.first { !isMissing($0) } }
        } else if isSecret, !keepingSecrets, top == mine {
            unlink(versions.filter { $0 < version }, of: key)
        } else {
            unlink(superseded(key, versions), of: key)
        }
        if isSecret, version > 0, !keepingSecrets { eraseTemporaries(suffix: suffix) }
        writeHint(for: key)
        if let undeleted {
            let reason = "holds a private key that was removed and could not be deleted; delete the file"
            throw StoreError(.denied, displayPath(undeleted), reason)
        }
        return true
    }

    /// Whether a version below the newest was linked before its successor. Its number may also have been free again,
    /// after pruning or a removal. Versions are unlinked from the newest to the oldest, so none is missing between a
    /// regular version and the newest, and its successor is no removal.
    private func isRegular(_ key: StoreKey, _ mine: UInt64, _ versions: [UInt64]) throws(StoreError) -> Bool {
        guard let top = versions.last, versions.count(where: { $0 >= mine }) == Int(top - mine) + 1 else {
            return false
        }
        let path = VersionName.path(of: mine + 1, key: key)
        return try !VersionFile(readFile(path, limit: VersionFile.sizeLimit), place: displayPath(path)).isRemoved
    }

    /// Unlinks versions that were superseded, the newest first. What cannot be unlinked now is deleted by the garbage
    /// collector.
    private func unlink(_ versions: some BidirectionalCollection<UInt64>, of key: StoreKey) {
        guard !versions.isEmpty else { return }
        for version in versions.reversed() { unlink(VersionName.path(of: version, key: key)) }
        try? files.syncFolder(key.path)
    }

    private func conflict(_ key: StoreKey, newest: UInt64) -> StoreError {
        count(\.conflicts)
        return StoreError(
            .conflict(newest: newest),
            displayPath(key.path),
            "was changed by another writer; read it again"
        )
    }

    /// Returns the versions that were superseded at least ``minimumAge`` ago and are not among the newest.
    func superseded(_ key: StoreKey, _ versions: [UInt64]) -> [UInt64] {
        guard let top = versions.last, versions.count > Self.versionsKept else { return [] }
        let now = now()
        let old: UInt64? = versionObservations.withLock { seen in
            if let earlier = seen[key.path] {
                guard now - earlier.since >= Self.minimumAge else { return nil }
                seen[key.path] = VersionObservation(newest: top, since: now)
                return earlier.newest
            }
            if seen.count >= Self.versionObservationLimit { seen.removeAll() }
            seen[key.path] = VersionObservation(newest: top, since: now)
            return nil
        }
        guard let old else { return [] }
        return versions.filter { $0 < old && top - $0 >= Self.versionsKept }
    }
}
