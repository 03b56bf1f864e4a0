extension Volume {
    /// Writes a backup into a store that has no cluster, by the store's own rules of publication. `cluster.json` comes
    /// last: until then gateways use nothing of it, and the same backup can be restored again after an interrupted
    /// restore.
    ///
    /// - Throws: `exists` if the store has a cluster or a file that is not in this backup.
    package func restore(_ backup: Backup) throws(StoreError) {
        try prepare()
        try requireUnfounded()
        try requireNothingElse(backup)
        // Credentials first: a gateway does not found a new cluster when there are credentials.
        for phase in [Phase.credentials, .keys, .others] {
            for file in backup.files where Phase(file.item) == phase {
                try place(file.item.path, try backup.content(of: file))
            }
        }
        for file in backup.files where Phase(file.item) == .cluster {
            try requireUnfounded()
            try place(file.item.path, try backup.content(of: file))
            try requireAlone(file.item)
        }
    }

    /// The order in which files are written.
    private enum Phase {
        case credentials, keys, others, cluster

        init(_ item: BackupItem) {
            switch item {
            case .value(ClusterDocument.key, _): self = .cluster
            case .value(let key, _): self = key.parent == BackupItem.agents ? .credentials : .others
            case .key: self = .keys
            }
        }
    }
}

extension Volume {
    private func requireUnfounded() throws(StoreError) {
        guard let found = try newest(ClusterDocument.key, fresh: true) else { return }
        let place = displayPath(ClusterDocument.key.path)
        let id = (try? VersionFile(found.file, place: place)).flatMap { try? ClusterDocument($0.bytes, place: place) }?
            .cluster
        throw StoreError(
            .exists(newest: found.version),
            files.root,
            "already belongs to a cluster\(id.map { " (\($0))" } ?? ""); restore into an empty folder"
        )
    }

    /// Verifies that every file in the way of the backup was written by an earlier attempt at this restore.
    private func requireNothingElse(_ backup: Backup) throws(StoreError) {
        let known = Set(backup.files.map(\.item.path))
        for folder in BackupItem.folders {
            for path in try filesBelow(folder.path, depth: StoreKey.depthLimit) where !known.contains(path) {
                throw StoreError(
                    .exists(newest: 0),
                    displayPath(path),
                    "is not in this backup; restore into an empty folder"
                )
            }
        }
    }

    private func filesBelow(_ folder: String, depth: Int) throws(StoreError) -> [String] {
        var found: [String] = []
        for name in try namesIfPresent(in: folder) ?? [] {
            let path = "\(folder)/\(name)"
            let status = try call { () throws(FileFault) in try files.status(path) }
            if status.kind == .folder, depth > 0 {
                found += try filesBelow(path, depth: depth - 1)
            } else {
                found.append(path)
            }
        }
        return found
    }

    /// Creates a file, or verifies that it has these bytes already.
    private func place(_ path: String, _ bytes: [UInt8]) throws(StoreError) {
        try ensureFolder(Self.folder(of: path))
        guard try create(path, bytes) else {
            throw StoreError(.exists(newest: 0), displayPath(path), "has other contents; restore into an empty folder")
        }
    }

    /// Withdraws cluster.json if a gateway that was started meanwhile, before there were credentials, has founded a
    /// cluster.
    private func requireAlone(_ item: BackupItem) throws(StoreError) {
        guard case .value(let key, let version) = item else { return }
        guard try versions(key, fresh: true) != [version] else { return }
        try? files.unlink(item.path)
        throw StoreError(
            .exists(newest: version),
            files.root,
            "a gateway founded a cluster here meanwhile; stop all gateways and restore into an empty folder"
        )
    }
}
