/// The archive that `hopgate backup` writes.
package struct BackupArchive: Sendable {
    package let bytes: [UInt8]
    package let cluster: String
    /// Whether the archive holds the cluster's keys; mounted keys have to be kept elsewhere.
    package let holdsKeys: Bool
    package let fileCount: Int
    /// The files that were left out and why, one line each.
    package let notes: [String]
}

extension Volume {
    /// Reads the newest version of every value and the current generations: cluster.json, keys, agents, certs, acme.
    /// Each is as it was at one moment; if the cluster's keys change meanwhile the backup starts over. Files that a
    /// gateway would not accept (a wrong MAC, a file open to others) are left out and noted.
    ///
    /// - Parameters:
    ///   - mounted: The keys of a mounted secret, or `nil` if the key is on the volume.
    ///   - release: The version of this binary.
    ///   - time: Seconds since 1970, for the archive's listing.
    ///   - created: The same time as text, for people.
    package func backup(
        mounted: [ClusterKey]?,
        release: String,
        time: UInt64,
        created: String
    ) throws(StoreError) -> BackupArchive {
        for _ in 0..<3 {
            guard let cluster = try readCluster(mounted: mounted) else {
                throw StoreError(.notFound, files.root, "there is no cluster yet, so there is nothing to back up")
            }
            let collection = try collect(cluster, mounted)
            guard try readCluster(mounted: mounted) == cluster else { continue }
            return try collection.archive(cluster, release: release, time: time, created: created)
        }
        throw StoreError(.busy, files.root, "the cluster's keys are changed too often; try again")
    }

    private func collect(_ cluster: ClusterIdentity, _ mounted: [ClusterKey]?) throws(StoreError) -> BackupCollection {
        var collection = BackupCollection(place: files.root)
        guard let document = try newest(ClusterDocument.key, fresh: true), document.version == cluster.version else {
            throw StoreError(.busy, files.root, "the cluster's keys are being changed; try again")
        }
        try collection.add(.value(ClusterDocument.key, version: document.version), document.bytes)
        if mounted == nil {
            for key in cluster.keyring.keys { try collection.add(.key(id: key.id), key.storedBytes) }
        }
        for key in try keys(BackupItem.agents) {
            try collect(value: key, into: &collection) { value throws(StoreError) in
                guard !Tombstone.isTombstone(value.bytes) else { return }
                let context = "\(key)/\(value.version)"
                let place = displayPath(context)
                _ = try SealedDocument.open(
                    value.bytes,
                    .credential,
                    context: context,
                    with: cluster.keyring,
                    place: place
                )
            }
        }
        for folder in BackupItem.folders { try collect(folder, into: &collection) }
        return collection
    }

    /// Collects the values and generations below a folder, at any depth.
    private func collect(_ folder: StoreKey, into collection: inout BackupCollection) throws(StoreError) {
        for name in (try namesIfPresent(in: folder.path) ?? []).sorted() {
            let path = "\(folder)/\(name)"
            let status: FileStatus
            do {
                status = try files.status(path)
            } catch {
                if error.kind == .missing { continue }
                throw storeError(for: error)
            }
            // The versions and generations of the folder itself were collected with its key.
            if VersionName.version(name, key: folder) != nil || Generation(name) != nil { continue }
            guard status.kind == .folder, let key = try? folder.child(name) else {
                collection.notes.append("\(displayPath(path)): is not a file of the store, left out")
                continue
            }
            let inner = try namesIfPresent(in: path) ?? []
            if inner.contains(where: { Generation($0) != nil }) {
                try collect(generations: key, into: &collection)
            }
            if inner.contains(where: { VersionName.version($0, key: key) != nil }) {
                try collect(value: key, into: &collection) { _ in }
            }
            try collect(key, into: &collection)
        }
    }

    private func collect(
        value key: StoreKey,
        into collection: inout BackupCollection,
        _ check: (StoredValue) throws(StoreError) -> Void
    ) throws(StoreError) {
        do {
            guard let value = try newest(key, fresh: true) else { return }
            try check(value)
            try collection.add(.value(key, version: value.version), value.bytes)
        } catch {
            try collection.skip(error)
        }
    }

    private func collect(
        generations key: StoreKey,
        into collection: inout BackupCollection
    ) throws(StoreError) {
        for _ in 0..<3 {
            do throws(StoreError) {
                for generation in try generations(key).suffix(Self.generationsKept) {
                    try collect(key, generation, into: &collection)
                }
                return
            } catch {
                // Superseded and deleted while it was read: start over.
                guard error.code == .notFound else { throw error }
                collection.remove(generationsOf: key)
            }
        }
        throw StoreError(.transient, displayPath(key.path), "changes faster than it can be read; try again")
    }

    private func collect(
        _ key: StoreKey,
        _ generation: Generation,
        into collection: inout BackupCollection
    ) throws(StoreError) {
        let folder = "\(key)/\(generation)"
        var set: [(String, [UInt8])] = []
        do throws(StoreError) {
            let names = try names(in: folder, fresh: true)
            guard (1...Self.filesPerGeneration).contains(names.count) else {
                throw StoreError(.corrupt, displayPath(folder), "is not a complete generation")
            }
            for name in names.sorted() {
                set.append((name, try readFile("\(folder)/\(name)", limit: Self.generationFileLimit)))
            }
        } catch {
            guard error.code != .notFound else { throw error }
            return try collection.skip(error)
        }
        for (name, bytes) in set { try collection.add(.file(key, generation, name: name), bytes) }
    }
}
