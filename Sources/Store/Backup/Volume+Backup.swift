/// The result of a backup.
package struct BackupSummary: Sendable {
    package internal(set) var cluster: String
    package internal(set) var fileCount = 0
    /// The files that were left out and why, one line each.
    package internal(set) var notes: [String] = []
}

extension Volume {
    /// Writes the newest version of every value and the current generations into an archive: cluster.json, keys,
    /// agents, certs, acme. Each is as it was at one moment; if the cluster's keys change meanwhile the backup starts
    /// over. Files that a gateway would not accept (a wrong MAC, a file open to others) are left out and noted.
    ///
    /// - Parameters:
    ///   - mounted: The keys of a mounted secret, or `nil` if the key is on the volume.
    ///   - release: The version of this binary.
    ///   - time: Seconds since 1970, for the archive's listing.
    ///   - created: The same time as text, for people.
    package func backup(
        into archive: ArchiveFile,
        mounted: [ClusterKey]?,
        release: String,
        time: UInt64,
        created: String
    ) throws(StoreError) -> BackupSummary {
        for _ in 0..<3 {
            guard let cluster = try readCluster(mounted: mounted) else {
                throw StoreError(.notFound, files.root, "there is no cluster yet, so there is nothing to back up")
            }
            try archive.clear()
            var backup = BackupWriter(tar: TarWriter(archive, time: time))
            try collect(cluster, mounted, into: &backup)
            guard try readCluster(mounted: mounted) == cluster else { continue }
            let summary = BackupSummary(cluster: cluster.id, fileCount: backup.tar.count, notes: backup.notes)
            let origin = BackupOrigin(cluster: cluster.id, release: release, time: time, created: created)
            try backup.tar.finish(origin, with: cluster.keyring.signing)
            return summary
        }
        throw StoreError(.busy, files.root, "the cluster's keys are changed too often; try again")
    }

    private func collect(
        _ cluster: ClusterIdentity,
        _ mounted: [ClusterKey]?,
        into backup: inout BackupWriter
    ) throws(StoreError) {
        guard let document = try newest(ClusterDocument.key, fresh: true), document.version == cluster.version else {
            throw StoreError(.busy, files.root, "the cluster's keys are being changed; try again")
        }
        try backup.add(.value(ClusterDocument.key, version: document.version), document.file)
        if mounted == nil {
            for key in cluster.keyring.keys { try backup.add(.key(id: key.id), key.storedBytes) }
        }
        for folder in BackupItem.folders { try collect(folder, cluster.keyring, into: &backup) }
    }

    /// Collects the values below a folder, at any depth.
    private func collect(
        _ folder: StoreKey,
        _ keyring: ClusterKeyring,
        into backup: inout BackupWriter
    ) throws(StoreError) {
        for name in (try namesIfPresent(in: folder.path) ?? []).sorted() {
            let path = "\(folder)/\(name)"
            let status: FileStatus
            do {
                status = try files.status(path)
            } catch {
                if error.kind == .missing { continue }
                throw storeError(for: error)
            }
            // The versions of the folder itself were collected with its key.
            if VersionName.version(name, key: folder) != nil { continue }
            guard status.kind == .folder, let key = try? folder.child(name) else {
                backup.notes.append("\(displayPath(path)): is not a file of the store, left out")
                continue
            }
            let inner = try namesIfPresent(in: path) ?? []
            if inner.contains(where: { VersionName.version($0, key: key) != nil }) {
                try collect(value: key, keyring, into: &backup)
            }
            try collect(key, keyring, into: &backup)
        }
    }

    private func collect(
        value key: StoreKey,
        _ keyring: ClusterKeyring,
        into backup: inout BackupWriter
    ) throws(StoreError) {
        let newest: StoredVersion
        do {
            guard let found = try self.newest(key, fresh: true) else { return }
            if let value = try value(of: found, key), SealedDocument.isSealed(key) {
                _ = try SealedDocument.open(value, at: key, with: keyring)
            }
            newest = found
        } catch {
            return try backup.skip(error)
        }
        try backup.add(.value(key, version: newest.version), newest.file)
    }
}

/// An archive in the making, and the notes about what was left out.
private struct BackupWriter {
    var tar: TarWriter
    var notes: [String] = []

    mutating func add(_ item: BackupItem, _ content: [UInt8]) throws(StoreError) {
        do {
            try tar.add(BackupItem.prefix + item.path, content)
        } catch {
            // A name that fits into no archive is none that a gateway has made.
            guard error.code == .badName else { throw error }
            try skip(error)
        }
    }

    /// Notes a file that is left out because a gateway would not accept it. Rethrows other failures, such as of the
    /// volume.
    mutating func skip(_ error: StoreError) throws(StoreError) {
        switch error.code {
        case .refused, .tooLarge, .corrupt, .foreign, .badName: notes.append("\(error): left out")
        default: throw error
        }
    }
}

extension Volume {
    /// Returns the current cluster.json, verified, or `nil` if there is none.
    package func readCluster(mounted: [ClusterKey]?) throws(StoreError) -> ClusterIdentity? {
        guard let stored = try value(of: newest(ClusterDocument.key, fresh: true), ClusterDocument.key) else {
            return nil
        }
        let place = displayPath("\(ClusterDocument.key)/\(stored.version)")
        let document = try ClusterDocument(stored.bytes, place: place)
        var keys: [ClusterKey] = []
        for id in document.keys where mounted == nil {
            if let key = try readKey(id, namedBy: place) { keys.append(key) }
        }
        return try ClusterIdentity(
            stored,
            document,
            keys: mounted ?? keys,
            isMounted: mounted != nil,
            isKeyOnVolume: mounted == nil,
            place: place
        )
    }
}
