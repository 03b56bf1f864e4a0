import Formats

/// The steps of a change of the cluster's key. Each is one new version of cluster.json, so a rotation may be interrupted
/// anywhere and continued by anyone: the key that it leads to stands there until it is finished.
extension Volume {
    /// Adds a key that verifies from now on. First step of a rotation; the second is ``sign(with:in:)`` as soon as every
    /// live card lists it.
    package func addKey(to cluster: ClusterIdentity) throws(StoreError) -> ClusterIdentity {
        guard cluster.keyring.keys.count < ClusterKeyFile.keyLimit else {
            throw StoreError(
                .tooLarge,
                shown(ClusterDocument.key.path),
                "lists \(ClusterKeyFile.keyLimit) keys already; retire the old ones first"
            )
        }
        let key = try writeNewKey()
        var fields = cluster.fields
        fields[ClusterIdentity.rotationField] = .string(key.id)
        do throws(StoreError) {
            return try rewrite(cluster, keys: cluster.keyring.keys + [key], fields)
        } catch {
            // Somebody else was faster, so nothing names this key.
            switch error.code {
            case .conflict, .notFound, .exists: try? files.unlink("\(ClusterDocument.keyFolder)/\(key.id)")
            default: break
            }
            throw error
        }
    }

    /// Signs with this key from now on.
    package func sign(with id: String, in cluster: ClusterIdentity) throws(StoreError) -> ClusterIdentity {
        guard let key = cluster.keyring[id] else {
            throw StoreError(.notFound, shown("\(ClusterDocument.keyFolder)/\(id)"), "is no key of this cluster")
        }
        return try rewrite(cluster, keys: [key] + cluster.keyring.keys.filter { $0 != key }, cluster.fields)
    }

    /// The rotation is over: nothing is left that an older key alone seals.
    package func finishRotation(in cluster: ClusterIdentity) throws(StoreError) -> ClusterIdentity {
        var fields = cluster.fields
        fields[ClusterIdentity.rotationField] = nil
        return try rewrite(cluster, keys: cluster.keyring.keys, fields)
    }

    /// Seals cluster.json with the key that signs: after a change of mounted keys it still has the MAC of an older one.
    package func resealCluster(_ cluster: ClusterIdentity) throws(StoreError) -> ClusterIdentity {
        try rewrite(cluster, keys: cluster.keyring.keys, cluster.fields)
    }

    /// Forgets a key that signs nothing any more.
    package func retire(_ id: String, from cluster: ClusterIdentity) throws(StoreError) -> ClusterIdentity {
        guard cluster.keyring.signing.id != id, let key = cluster.keyring[id] else {
            throw StoreError(.notFound, shown("\(ClusterDocument.keyFolder)/\(id)"), "is no key that can be retired")
        }
        let changed = try rewrite(cluster, keys: cluster.keyring.keys.filter { $0 != key }, cluster.fields)
        try? files.unlink("\(ClusterDocument.keyFolder)/\(id)")
        return changed
    }

    private func rewrite(
        _ cluster: ClusterIdentity,
        keys: [ClusterKey],
        _ fields: [String: JSONValue]
    ) throws(StoreError) -> ClusterIdentity {
        let document = ClusterDocument(cluster: cluster.id, keys: keys.map(\.id), keeping: fields)
        let version = cluster.version + 1
        let bytes = document.sealed(version: version, with: keys[0])
        _ = try replace(ClusterDocument.key, expecting: cluster.version, bytes)
        return ClusterIdentity(
            id: cluster.id,
            keyring: ClusterKeyring(keys),
            isKeyOnVolume: cluster.isKeyOnVolume,
            version: version,
            sealedBy: keys[0].id,
            fields: document.fields
        )
    }
}
