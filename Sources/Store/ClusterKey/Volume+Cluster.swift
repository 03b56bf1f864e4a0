extension Volume {
    /// Reads which cluster this store belongs to, or founds one. Of several processes that start at the same time
    /// on an empty store exactly one founds it, by one link(2); the others delete the key that they have created and
    /// read the winner's.
    ///
    /// - Parameters:
    ///   - mounted: The keys of a mounted secret, or `nil` if the key is on the volume.
    ///   - onFounding: Called when this call has founded the cluster.
    package func openCluster(
        mounted: [ClusterKey]?,
        onFounding: () -> Void = {}
    ) throws(StoreError) -> ClusterIdentity {
        var isFounder = false
        for _ in 0..<Self.attempts {
            if let found = try readCluster(mounted: mounted) {
                if isFounder { onFounding() }
                return found
            }
            // Credentials without a cluster belong to a damaged store, not to a new one.
            guard try namesIfPresent(in: "agents")?.isEmpty ?? true else {
                throw StoreError(
                    .corrupt,
                    displayPath(ClusterDocument.key.path),
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
                try write(ClusterDocument.key, .create(document.sealed(version: 1, with: key)))
                isFounder = true
            } catch {
                switch error.code {
                case .exists, .conflict:
                    if mounted == nil { discard(key) }
                // It is unknown whether cluster.json was created: the next round reads it.
                case .unconfirmed: break
                default:
                    throw error
                }
            }
        }
        throw StoreError(
            .transient,
            displayPath(ClusterDocument.key.path),
            "can be neither created nor read; try again"
        )
    }

    /// Returns the current cluster.json, verified, or `nil` if there is none.
    package func readCluster(mounted: [ClusterKey]?) throws(StoreError) -> ClusterIdentity? {
        guard let stored = try value(of: newest(ClusterDocument.key, fresh: true), ClusterDocument.key) else {
            return nil
        }
        let place = displayPath("\(ClusterDocument.key)/\(stored.version)")
        let document = try ClusterDocument(stored.bytes, place: place)
        var keys: [ClusterKey] = []
        if let mounted {
            keys = mounted
        } else {
            for id in document.keys {
                // A missing key only fails to verify what it signed, but the first key has to be there.
                if let key = try readKey(id, namedBy: place) { keys.append(key) }
            }
        }
        do throws(StoreError) {
            return try ClusterIdentity(
                stored,
                document,
                keys: keys,
                isMounted: mounted != nil,
                isKeyOnVolume: mounted == nil || keyIsOnVolume(document.keys),
                place: place
            )
        } catch {
            count(\.corrupt)
            throw error
        }
    }
}

extension Volume {
    /// Creates a key and its file. The file is durable before any document names the key.
    package func writeNewKey() throws(StoreError) -> ClusterKey {
        let key = ClusterKey.generate(random: random)
        try ensureFolder(ClusterDocument.keyFolder)
        guard try create("\(ClusterDocument.keyFolder)/\(key.id)", key.storedBytes) else {
            throw StoreError(
                .transient,
                displayPath(ClusterDocument.keyFolder),
                "a new key cannot be read back; try again"
            )
        }
        return key
    }

    /// Deletes a key that lost the race to found the cluster, if cluster.json names another one.
    private func discard(_ key: ClusterKey) {
        guard let stored = try? read(ClusterDocument.key),
            let document = try? ClusterDocument(stored.bytes, place: ""), !document.keys.contains(key.id)
        else { return }
        try? files.unlink("\(ClusterDocument.keyFolder)/\(key.id)")
    }

    /// Reads a key file.
    ///
    /// - Parameter document: The location of cluster.json, which may be the damaged one of the two.
    func readKey(_ id: String, namedBy document: String) throws(StoreError) -> ClusterKey? {
        let path = "\(ClusterDocument.keyFolder)/\(id)"
        try revalidate(ClusterDocument.keyFolder)
        let bytes: [UInt8]
        do {
            bytes = try readFile(path, limit: ClusterKey.size)
        } catch {
            guard error.code == .notFound else { throw error }
            return nil
        }
        let remedy = "; restore it from a backup, or \(document), which names it"
        guard bytes.count == ClusterKey.size else { throw corrupt(path, "is not a key\(remedy)") }
        let key = ClusterKey(secret: bytes)
        guard key.id == id else { throw corrupt(path, "holds a different key than its name states\(remedy)") }
        return key
    }

    /// Deletes a key that no document names any more.
    func removeKey(_ id: String) throws(StoreError) {
        try call { () throws(FileFault) in try files.unlink("\(ClusterDocument.keyFolder)/\(id)") }
    }

    private func keyIsOnVolume(_ ids: [String]) -> Bool {
        ids.contains { (try? files.status("\(ClusterDocument.keyFolder)/\($0)")) != nil }
    }
}
