import Formats

/// A backup that was read and verified. Everything in it may be written as it is.
///
/// `hopgate backup` creates an archive with ``Store/backup(into:mounted:release:time:)`` and verifies it as
/// `hopgate restore` does, with ``init(_:mounted:)``; ``Store/restore(_:)`` writes it. The archive (``TarArchive``)
/// ends with a sealed ``BackupManifest`` that has the digest of all other files; ``BackupItem`` defines which names a
/// backup may hold. The contents stay in the archive and are read when they are needed.
package struct Backup: Sendable {
    package let cluster: String
    package let created: String
    /// The release that created it.
    package let release: String
    package let holdsKeys: Bool
    /// The files, with their location in the archive.
    let files: [File]
    private let archive: ArchiveFile

    typealias File = (item: BackupItem, entry: TarReader.Entry)

    package var credentialCount: Int { files.count { $0.item.isCredential } }
    package var certificateCount: Int { files.count { $0.item.isCertificate } }
    package var fileCount: Int { files.count }

    /// Verifies everything: the archive, names, sizes, duplicates, the digest and seals.
    ///
    /// - Parameter mounted: The keys of a mounted secret, or `nil`; with mounted keys the keys in the backup are left
    ///   out.
    package init(_ archive: ArchiveFile, mounted: [ClusterKey]?) throws(StoreError) {
        let place = archive.place
        let listing = try TarReader.list(archive)
        guard let last = listing.entries.last, last.name == BackupItem.manifest,
            last.range.count <= ArchiveLimits.lastFile
        else {
            throw StoreError(
                .corrupt,
                place,
                "does not end with \(BackupItem.manifest); it is incomplete, or not a backup of a store"
            )
        }
        let all = try Self.items(listing.entries.dropLast(), place)
        guard let clusterFile = all.first(where: { $0.item == .cluster }) else {
            throw StoreError(.corrupt, place, "holds no cluster.json; it is incomplete")
        }
        let document = try ClusterDocument(
            try archive.read(clusterFile.entry.range),
            place: "\(place): \(ClusterDocument.key)"
        )
        let keyring = try Self.keyring(all, document, mounted, archive)

        let manifest: BackupManifest
        do throws(StoreError) {
            manifest = try BackupManifest(try archive.read(last.range), with: keyring, place: place)
            guard manifest.files == all.count, manifest.sha256 == Hex.string(listing.digest) else {
                throw StoreError(.corrupt, place, "differs from what was backed up; it is damaged")
            }
            try Self.checkSeals(all, keyring, archive)
        } catch {
            guard error.code == .foreign else { throw error }
            throw error.adding(
                mounted == nil
                    ? "the backup does not hold this key: use another one"
                    : "add this key to cluster_key_file as a further line, or use a backup of the mounted key's cluster"
            )
        }
        guard manifest.cluster == document.cluster else {
            throw StoreError(.corrupt, place, "combines files of two clusters; use another backup")
        }
        self.archive = archive
        cluster = document.cluster
        created = manifest.created
        release = manifest.release
        files = mounted == nil ? all : all.filter { !$0.item.isKey }
        holdsKeys = files.contains { $0.item.isKey }
    }

    /// Reads the content of a file.
    func content(of file: File) throws(StoreError) -> [UInt8] { try archive.read(file.entry.range) }
}

extension TarWriter {
    /// Ends a backup with its sealed manifest.
    package consuming func finish(cluster: String, release: String, with key: ClusterKey) throws(StoreError) {
        let manifest = BackupManifest(
            cluster: cluster,
            release: release,
            created: UnixTime(seconds: Int64(clamping: time)).rfc3339,
            files: count,
            sha256: Hex.string(digest)
        )
        try finish(BackupItem.manifest, manifest.sealed(with: key))
    }
}

extension Backup {
    private static func items(
        _ entries: ArraySlice<TarReader.Entry>,
        _ place: String
    ) throws(StoreError) -> [File] {
        try entries.map { entry throws(StoreError) in
            let name = StoreKey.printable(entry.name)
            guard let item = BackupItem(entry.name) else {
                throw StoreError(.badName, place, "holds \(name), which is not a file of a backup")
            }
            guard entry.range.count <= item.sizeLimit else {
                throw StoreError(.tooLarge, place, "\(name) is larger than the \(item.sizeLimit) bytes it may have")
            }
            return (item, entry)
        }
    }

    private static func keyring(
        _ files: [File],
        _ document: ClusterDocument,
        _ mounted: [ClusterKey]?,
        _ archive: ArchiveFile
    ) throws(StoreError) -> ClusterKeyring {
        if let mounted { return ClusterKeyring(mounted) }
        let place = archive.place
        var keys: [String: ClusterKey] = [:]
        for case (.key(let id), let entry) in files {
            let secret = try archive.read(entry.range)
            guard secret.count == ClusterKey.size, ClusterKey(secret: secret).id == id else {
                throw StoreError(.corrupt, place, "holds a damaged key, \(id)")
            }
            guard document.keys.contains(id) else {
                throw StoreError(.corrupt, place, "holds a key that its cluster does not have, \(id)")
            }
            keys[id] = ClusterKey(secret: secret)
        }
        guard keys[document.keys[0]] != nil else {
            throw StoreError(
                .notFound,
                place,
                "holds no key of cluster \(document.cluster): the key was mounted; set cluster_key_file to it"
            )
        }
        return ClusterKeyring(document.keys.compactMap { keys[$0] })
    }

    private static func checkSeals(
        _ files: [File],
        _ keyring: ClusterKeyring,
        _ archive: ArchiveFile
    ) throws(StoreError) {
        for case (.value(let key), let entry) in files where SealedDocument.isSealed(key) {
            let value = StoredValue(bytes: try archive.read(entry.range), version: 1)
            _ = try SealedDocument.open(value, at: key, with: keyring, in: archive.place)
        }
    }
}
