import Formats

/// The steps of a key rotation. Each is the next version of cluster.json, which names the target key until the rotation
/// is finished, so a rotation may be interrupted anywhere and continued by any process. Values, without I/O; see
/// ``document(version:)``.
extension ClusterIdentity {
    /// Adds a key that verifies from now on: the first step of a rotation. The second is ``signing(with:)``, once the
    /// information of every live replica lists the key.
    package func adding(_ key: ClusterKey) throws(StoreError) -> ClusterIdentity {
        guard keyring.keys.count + unusableKeys.count < ClusterKeyFile.keyLimit else {
            throw StoreError(
                .tooLarge,
                ClusterDocument.key.path,
                "already lists \(ClusterKeyFile.keyLimit) keys; retire the old ones first: "
                    + "hopgate cluster rotate-key --retire-old"
            )
        }
        var fields = fields
        fields[Self.rotationField] = .string(key.id)
        return next(keyring.keys + [key], fields)
    }

    /// Makes a key the signing key.
    package func signing(with id: String) throws(StoreError) -> ClusterIdentity {
        guard let key = keyring[id] else {
            throw StoreError(.notFound, "\(ClusterDocument.keyFolder)/\(id)", "is not a key of this cluster")
        }
        return next([key] + keyring.keys.filter { $0 != key }, fields)
    }

    /// Finishes a rotation, once nothing is left that only an older key seals.
    package func finishingRotation() -> ClusterIdentity {
        var fields = fields
        fields[Self.rotationField] = nil
        return next(keyring.keys, fields)
    }

    /// Seals cluster.json with the signing key. Needed after a change of mounted keys, when its MAC is that of an older
    /// key.
    package func resealed() -> ClusterIdentity { next(keyring.keys, fields) }

    /// The highest number of retired keys that are listed until their files are deleted.
    private static let retiredLimit = 64

    /// Removes a key that no longer signs anything, usable or not. Its file is to be deleted after that, and until
    /// ``confirmingDeletion(of:)`` the document lists it in ``retiredKeys``.
    package func retiring(_ id: String) throws(StoreError) -> ClusterIdentity {
        guard keyring.signing.id != id, listedKeys.contains(id) else {
            throw StoreError(.notFound, "\(ClusterDocument.keyFolder)/\(id)", "is not a key that can be retired")
        }
        var fields = fields
        fields[Self.retiredField] = .array((retiredKeys + [id]).suffix(Self.retiredLimit).map { .string($0) })
        if fields[Self.rotationField]?.string == id { fields[Self.rotationField] = nil }
        return next(keyring.keys.filter { $0.id != id }, fields, unusable: unusableKeys.filter { $0.id != id })
    }

    /// Removes retired keys whose files are deleted from ``retiredKeys``.
    package func confirmingDeletion(of ids: Set<String>) -> ClusterIdentity {
        var fields = fields
        let left = retiredKeys.filter { !ids.contains($0) }
        fields[Self.retiredField] = left.isEmpty ? nil : .array(left.map { .string($0) })
        return next(keyring.keys, fields)
    }

    /// Returns the content of cluster.json in a version.
    ///
    /// - Parameter listsUnusable: Whether it lists the keys that cannot be used.
    func document(version: UInt64, listsUnusable: Bool = true) -> [UInt8] {
        let ids = keyring.keys.map(\.id) + (listsUnusable ? unusableKeys.map(\.id) : [])
        return ClusterDocument(cluster: id, keys: ids, keeping: fields)
            .sealed(version: version, with: keyring.signing)
    }

    private func next(
        _ keys: [ClusterKey],
        _ fields: [String: JSONValue],
        unusable: [UnusableKey]? = nil
    ) -> ClusterIdentity {
        let unusable = unusable ?? unusableKeys
        let ids = keys.map(\.id) + unusable.map(\.id)
        return ClusterIdentity(
            id: id,
            keyring: ClusterKeyring(keys),
            isMounted: isMounted,
            keysOnVolume: keys.map(\.id).filter { !isMounted || keysOnVolume.contains($0) },
            unusableKeys: unusable,
            version: version + 1,
            sealedBy: keys[0].id,
            fields: ClusterDocument(cluster: id, keys: ids, keeping: fields).fields
        )
    }
}

extension ClusterIdentity {
    /// Verifies a version of cluster.json.
    ///
    /// - Parameters:
    ///   - document: The parsed content of `stored`.
    ///   - keys: The mounted keys, or those of `document` that are in the store, in its order.
    ///   - keysOnVolume: The ids of those of `keys` that have a file in the store.
    ///   - unusableKeys: The keys of `document` whose files cannot be used.
    ///   - place: The location for messages.
    package init(
        _ stored: StoredValue,
        _ document: ClusterDocument,
        keys: [ClusterKey],
        isMounted: Bool,
        keysOnVolume: [String],
        unusableKeys: [UnusableKey] = [],
        place: String
    ) throws(StoreError) {
        guard !keys.isEmpty, isMounted || keys[0].id == document.keys[0] else {
            throw StoreError(
                .notFound,
                "\(ClusterDocument.keyFolder)/\(document.keys[0])",
                "the key of cluster \(document.cluster) is not there (\(place) names it); extract keys/\(document.keys[0]) "
                    + "from a backup, which is a tar file, or, if the key is mounted, set cluster_key_file"
            )
        }
        let keyring = ClusterKeyring(keys)
        let context = ClusterDocument.context(stored.version)
        do {
            _ = try SealedDocument.open(stored.bytes, .cluster, context: context, with: keyring, place: place)
        } catch {
            guard error.code == .foreign, isMounted else {
                throw error.adding(StoreLayout.remedy(for: .clusterDocument))
            }
            throw StoreError(
                .foreign,
                place,
                "cluster \(document.cluster) has another key than the mounted one; mount its key as a second line, "
                    + "or use another volume"
            )
        }
        self.init(
            id: document.cluster,
            keyring: keyring,
            isMounted: isMounted,
            keysOnVolume: keysOnVolume,
            unusableKeys: unusableKeys,
            version: stored.version,
            sealedBy: SealedDocument.keyID(stored.bytes) ?? "",
            fields: document.fields
        )
    }
}
