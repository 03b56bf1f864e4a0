/// The cluster's document and keys.
extension Store {
    /// Reads which cluster this store belongs to, or founds one. Of several processes that start at the same time on an
    /// empty store exactly one founds it, by creating cluster.json; the others delete the key that they have created
    /// and read the winner's.
    ///
    /// - Parameter mounted: The keys of a mounted secret, or `nil` if the key is in the store.
    /// - Returns: Also whether this call has founded the cluster.
    package func openCluster(
        mounted: [ClusterKey]?
    ) async throws(StoreError) -> (cluster: ClusterIdentity, isFounder: Bool) {
        var isFounder = false
        var created: ClusterKey?
        for _ in 0..<16 {
            if let found = try await readCluster(mounted: mounted) {
                if let created, found.keyring[created.id] == nil { try? await removeClusterKey(created.id) }
                return (found, isFounder)
            }
            if let problem = try await missingCluster() { throw problem }
            let key = mounted?.first ?? created ?? .generate()
            if mounted == nil, created == nil {
                try await createClusterKey(key)
                created = key
            }
            let document = ClusterDocument(cluster: key.foundedClusterID, keys: [key.id])
            do {
                try await write(.clusterDocument, .create(document.sealed(version: 1, with: key)))
                isFounder = true
            } catch {
                // Another process has created it, or it is unknown who has: the next round reads it.
                guard error.isConflict else { throw error }
            }
        }
        throw StoreError(.transient, place(of: .clusterDocument), "can be neither created nor read; try again")
    }

    /// Returns the error that cluster.json is missing although the store has a value that only a store with a cluster
    /// has, or `nil` if there is none: without a cluster such a store is damaged, not new. Keys are no sign of it,
    /// because a start that was interrupted leaves one.
    package func missingCluster() async throws(StoreError) -> StoreError? {
        for prefix in StoreLayout.kept {
            guard let value = try await list(prefix).first else { continue }
            // Another process may have founded the cluster and written the value since the caller's read.
            guard try await readIfPresent(.clusterDocument) == nil else { return nil }
            return StoreError(
                .corrupt,
                place(of: .clusterDocument),
                "is missing although the store has values (\(value)): if a restore was interrupted, "
                    + "run the same restore again; otherwise restore a backup into an empty folder"
            )
        }
        return nil
    }

    /// Returns the current cluster.json, verified, or `nil` if there is none.
    ///
    /// - Parameter mounted: The keys of a mounted secret, or `nil` if the key is in the store.
    package func readCluster(mounted: [ClusterKey]?) async throws(StoreError) -> ClusterIdentity? {
        guard let stored = try await readIfPresent(.clusterDocument) else { return nil }
        let place = place(of: stored.version, .clusterDocument)
        let document = try ClusterDocument(stored.bytes, place: place)
        var found: [ClusterKey] = []
        var keysOnVolume: [String] = []
        var unusable: [UnusableKey] = []
        for id in mounted?.map(\.id) ?? document.keys {
            do {
                // A missing key only fails to verify what it signed, but the first key has to be there.
                guard let key = try await clusterKey(id, namedBy: place) else { continue }
                found.append(key)
            } catch {
                guard mounted != nil else {
                    guard id != document.keys[0], !error.isTransient, error.code != .closed else { throw error }
                    // An old key is not needed to sign, only to verify what it has sealed.
                    let remedy = "or, if nothing needs this old key, remove it: hopgate cluster rotate-key --retire-old"
                    unusable.append(UnusableKey(id: id, problem: error.adding(remedy)))
                    continue
                }
                // A key that is mounted is not needed in the store.
                // A file that is refused can still be read by others.
                if error.isTransient { continue }
            }
            keysOnVolume.append(id)
        }
        return try ClusterIdentity(
            stored,
            document,
            keys: mounted ?? found,
            isMounted: mounted != nil,
            keysOnVolume: keysOnVolume,
            unusableKeys: unusable,
            place: place
        )
    }

    /// Writes the next version of cluster.json.
    ///
    /// - Throws: `conflict` if another process has written one meanwhile.
    package func replace(_ cluster: ClusterIdentity) async throws(StoreError) {
        try await write(.clusterDocument, .replace(cluster.version - 1, cluster.document(version: cluster.version)))
    }

    /// The location of a key for messages.
    package func place(of key: StoreKey) -> String { "\(diagnostics.path)/\(key)" }

    /// The location of a key of the cluster for messages.
    package func place(ofClusterKey id: String) -> String { "\(diagnostics.path)/\(ClusterDocument.keyFolder)/\(id)" }

    /// The location of a version for messages.
    package func place(of version: UInt64, _ key: StoreKey) -> String {
        "\(diagnostics.path)/\(VersionName.path(of: version, key: key))"
    }
}
