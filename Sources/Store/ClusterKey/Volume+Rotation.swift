import Formats

/// The steps of a key rotation. Each writes one new version of cluster.json, which names the target key until the
/// rotation is finished, so a rotation may be interrupted anywhere and continued by any process.
extension Volume {
    /// Adds a key that verifies from now on: the first step of a rotation. The second is ``sign(with:in:)``, once the
    /// information of every live replica lists the key.
    package func addKey(to cluster: ClusterIdentity) throws(StoreError) -> ClusterIdentity {
        guard cluster.keyring.keys.count < ClusterKeyFile.keyLimit else {
            throw StoreError(
                .tooLarge,
                displayPath(ClusterDocument.key.path),
                "already lists \(ClusterKeyFile.keyLimit) keys; retire the old ones first"
            )
        }
        let key = try writeNewKey()
        var fields = cluster.fields
        fields[ClusterIdentity.rotationField] = .string(key.id)
        do throws(StoreError) {
            return try rewrite(cluster, keys: cluster.keyring.keys + [key], fields)
        } catch {
            // Another process was faster, so no document names this key.
            switch error.code {
            case .conflict, .notFound, .exists: try? files.unlink("\(ClusterDocument.keyFolder)/\(key.id)")
            default: break
            }
            throw error
        }
    }

    /// Makes a key the signing key.
    package func sign(with id: String, in cluster: ClusterIdentity) throws(StoreError) -> ClusterIdentity {
        guard let key = cluster.keyring[id] else {
            throw StoreError(
                .notFound,
                displayPath("\(ClusterDocument.keyFolder)/\(id)"),
                "is not a key of this cluster"
            )
        }
        return try rewrite(cluster, keys: [key] + cluster.keyring.keys.filter { $0 != key }, cluster.fields)
    }

    /// Finishes a rotation, once nothing is left that only an older key seals.
    package func finishRotation(in cluster: ClusterIdentity) throws(StoreError) -> ClusterIdentity {
        var fields = cluster.fields
        fields[ClusterIdentity.rotationField] = nil
        return try rewrite(cluster, keys: cluster.keyring.keys, fields)
    }

    /// Seals cluster.json with the signing key. Needed after a change of mounted keys, when its MAC is that of an older
    /// key.
    package func resealCluster(_ cluster: ClusterIdentity) throws(StoreError) -> ClusterIdentity {
        try rewrite(cluster, keys: cluster.keyring.keys, cluster.fields)
    }

    /// Removes a key that no longer signs anything.
    package func retire(_ id: String, from cluster: ClusterIdentity) throws(StoreError) -> ClusterIdentity {
        guard cluster.keyring.signing.id != id, let key = cluster.keyring[id] else {
            throw StoreError(
                .notFound,
                displayPath("\(ClusterDocument.keyFolder)/\(id)"),
                "is not a key that can be retired"
            )
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
        try write(ClusterDocument.key, .replace(cluster.version, bytes))
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
