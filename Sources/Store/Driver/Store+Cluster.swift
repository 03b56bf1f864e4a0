/// The cluster's document and keys, for users of the store.
extension Store {
    /// Returns the current cluster.json, verified, or `nil` if there is none.
    ///
    /// - Parameter mounted: The keys of a mounted secret, or `nil` if the key is in the store.
    package func readCluster(mounted: [ClusterKey]?) async throws(StoreError) -> ClusterIdentity? {
        guard let stored = try await readIfPresent(ClusterDocument.key) else { return nil }
        let place = "\(ClusterDocument.key)/\(stored.version)"
        let document = try ClusterDocument(stored.bytes, place: place)
        var found: [ClusterKey] = []
        for id in document.keys {
            // A missing key only fails to verify what it signed.
            if let key = try await clusterKey(id, namedBy: place) { found.append(key) }
        }
        return try ClusterIdentity(
            stored,
            document,
            keys: mounted ?? found,
            isMounted: mounted != nil,
            isKeyOnVolume: !found.isEmpty,
            place: place
        )
    }

    /// Writes the next version of cluster.json.
    ///
    /// - Throws: `conflict` if another process has written one meanwhile.
    package func replace(_ cluster: ClusterIdentity) async throws(StoreError) {
        try await write(ClusterDocument.key, .replace(cluster.version - 1, cluster.document))
    }
}
