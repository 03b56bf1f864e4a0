extension Volume {
    /// Reads which cluster this store belongs to, or founds one. Of many processes that start at once on an empty store
    /// exactly one founds it, by one link(2); the others delete the key that they had made and read the winner's.
    ///
    /// - Parameter mounted: the keys of a mounted secret; nil: the key is on the volume.
    package func openCluster(mounted: [ClusterKey]?) throws(StoreError) -> ClusterIdentity {
        for _ in 0..<Self.attempts {
            if let found = try readCluster(mounted: mounted) { return found }
            // Credentials without a cluster are what is left of a store, not a new one.
            guard try namesIfPresent(in: "agents")?.isEmpty ?? true else {
                throw StoreError(
                    .corrupt,
                    shown(ClusterDocument.key.path),
                    "is missing although the store has credentials; restore it from a backup"
                )
            }
            let key: ClusterKey
            if let mounted {
                key = ClusterKeyring(mounted).signing
            } else {
                key = try writeNewKey()
            }
            let document = ClusterDocument(cluster: key.foundedClusterID, keys: [key.id])
            do {
                _ = try create(ClusterDocument.key, document.sealed(version: 1, with: key))
            } catch {
                switch error.code {
                case .exists, .conflict:
                    if mounted == nil { discard(key) }
                // Perhaps ours, perhaps not: the next round reads it.
                case .unconfirmed: break
                default:
                    throw error
                }
            }
        }
        throw StoreError(.transient, shown(ClusterDocument.key.path), "can be neither made nor read; try again")
    }

    /// What cluster.json says, if it is genuine; nil if there is none.
    package func readCluster(mounted: [ClusterKey]?) throws(StoreError) -> ClusterIdentity? {
        guard let stored = try newest(ClusterDocument.key, fresh: true) else { return nil }
        let place = shown("\(ClusterDocument.key)/\(stored.version)")
        let document = try ClusterDocument(stored.bytes, place: place)
        var keys: [ClusterKey] = []
        if let mounted {
            keys = mounted
        } else {
            for id in document.keys {
                // A key that is missing is as good as one that signs nothing; the first has to be there.
                if let key = try readKey(id, namedBy: place) { keys.append(key) }
            }
        }
        guard !keys.isEmpty, mounted != nil || keys[0].id == document.keys[0] else {
            throw StoreError(
                .notFound,
                shown("\(ClusterDocument.keyFolder)/\(document.keys[0])"),
                "the key of cluster \(document.cluster) is not there (\(place) names it); restore it from a backup, or "
                    + "mount it"
            )
        }
        let keyring = ClusterKeyring(keys)
        let context = ClusterDocument.context(stored.version)
        do {
            _ = try SealedDocument.open(stored.bytes, .cluster, context: context, with: keyring, place: place)
        } catch {
            count(\.corrupt)
            guard error.code == .foreign, mounted != nil else { throw error }
            throw StoreError(
                .foreign,
                place,
                "cluster \(document.cluster) has another key than the mounted one; mount its key as a second line, "
                    + "or use another volume"
            )
        }
        return ClusterIdentity(
            id: document.cluster,
            keyring: keyring,
            isKeyOnVolume: mounted == nil || keyIsOnVolume(document.keys),
            version: stored.version,
            sealedBy: SealedDocument.keyID(stored.bytes) ?? "",
            fields: document.fields
        )
    }
}

extension Volume {
    /// Makes a key and its file. The file is durable before anything names it.
    func writeNewKey() throws(StoreError) -> ClusterKey {
        let key = ClusterKey.generate(random: random)
        try ensureFolder(ClusterDocument.keyFolder)
        guard try create("\(ClusterDocument.keyFolder)/\(key.id)", key.storedBytes, .content) else {
            throw StoreError(.transient, shown(ClusterDocument.keyFolder), "a new key cannot be read back; try again")
        }
        return key
    }

    /// Deletes a key that lost the race, once another is known to have won it.
    private func discard(_ key: ClusterKey) {
        guard let stored = try? newest(ClusterDocument.key, fresh: true),
            let document = try? ClusterDocument(stored.bytes, place: ""), !document.keys.contains(key.id)
        else { return }
        try? files.unlink("\(ClusterDocument.keyFolder)/\(key.id)")
    }

    /// - Parameter document: the cluster.json, whose word may be wrong where the key is.
    private func readKey(_ id: String, namedBy document: String) throws(StoreError) -> ClusterKey? {
        let path = "\(ClusterDocument.keyFolder)/\(id)"
        try askServer(ClusterDocument.keyFolder)
        let bytes: [UInt8]
        do {
            bytes = try readFile(path, limit: ClusterKey.size)
        } catch {
            guard error.code == .notFound else { throw error }
            return nil
        }
        let remedy = "; restore it from a backup, or \(document), which names it"
        guard bytes.count == ClusterKey.size else { throw corrupt(path, "is no key\(remedy)") }
        let key = ClusterKey(secret: bytes)
        guard key.id == id else { throw corrupt(path, "is another key than its name says\(remedy)") }
        return key
    }

    private func keyIsOnVolume(_ ids: [String]) -> Bool {
        ids.contains { (try? files.status("\(ClusterDocument.keyFolder)/\($0)")) != nil }
    }
}
