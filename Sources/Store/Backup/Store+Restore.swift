extension Store {
    /// Writes a backup into a store that has no cluster. `cluster.json` comes last: until then gateways use nothing of
    /// it, and the same backup can be restored again after an interrupted restore.
    ///
    /// - Throws: `exists` if the store has a cluster or a value that is not in this backup.
    package func restore(_ backup: Backup) async throws(StoreError) {
        try await requireUnfounded()
        let values = backup.files.compactMap { file in
            if case .value(let key) = file.item { (key, file) } else { nil }
        }
        let files = Dictionary(uniqueKeysWithValues: values)
        for prefix in StoreLayout.kept {
            for key in try await list(prefix) where files[key] == nil {
                throw StoreError(
                    .exists(newest: 0),
                    place(of: key),
                    "is not in this backup; restore into an empty folder"
                )
            }
        }
        func create(_ keys: [StoreKey]) async throws(StoreError) {
            try await createAll(keys) { key throws(StoreError) in try backup.content(of: files[key]!) }
        }
        // Keys after the values: a gateway founds no new cluster when there are values.
        try await create(values.map(\.0).filter { $0 != .clusterDocument })
        for file in backup.files where file.item.isKey {
            try await createClusterKey(ClusterKey(secret: try backup.content(of: file)))
        }
        try await create([.clusterDocument])
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
}
