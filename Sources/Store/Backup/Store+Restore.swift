extension Store {
    /// Writes a backup into a store that has no cluster. `cluster.json` comes last: until then gateways use nothing of
    /// it, and the same backup can be restored again after an interrupted restore.
    ///
    /// - Throws: `exists` if the store has a cluster or a value that is not in this backup.
    package func restore(_ backup: Backup) async throws(StoreError) {
        try await requireUnfounded()
        let known = Set(backup.files.map(\.item.name))
        for prefix in StoreLayout.kept {
            for key in try await list(prefix) where !known.contains(BackupItem.value(key).name) {
                throw StoreError(
                    .exists(newest: 0),
                    place(of: key),
                    "is not in this backup; restore into an empty folder"
                )
            }
        }
        // Keys after the values: a gateway founds no new cluster when there are values.
        for file in backup.files where !file.item.isKey && file.item != .cluster { try await create(file, of: backup) }
        for file in backup.files where file.item.isKey { try await create(file, of: backup) }
        for file in backup.files where file.item == .cluster { try await create(file, of: backup) }
    }

    private func requireUnfounded() async throws(StoreError) {
        guard let found = try await readIfPresent(.clusterDocument) else { return }
        let id = (try? ClusterDocument(found.bytes, place: ""))?.cluster
        throw StoreError(
            .exists(newest: found.version),
            diagnostics.path,
            "already belongs to a cluster\(id.map { " (\($0))" } ?? ""); restore into an empty folder"
        )
    }

    /// Creates a file of the backup, or verifies that an earlier attempt at this restore has created it.
    private func create(_ file: Backup.File, of backup: Backup) async throws(StoreError) {
        let bytes = try backup.content(of: file)
        guard case .value(let key) = file.item else { return try await createClusterKey(ClusterKey(secret: bytes)) }
        let stored: StoredValue
        do {
            stored = StoredValue(bytes: bytes, version: try await write(key, .create(bytes)))
        } catch {
            guard case .exists = error.code else { throw error }
            stored = try await read(key)
        }
        guard stored == StoredValue(bytes: bytes, version: 1) else {
            throw StoreError(
                .exists(newest: stored.version),
                place(of: key),
                "has or had other contents; stop all gateways and restore into an empty folder"
            )
        }
    }
}
