/// A backup that was read and verified. Everything in it may be written as it is.
///
/// `hopgate backup` creates an archive with ``Volume/backup(mounted:release:time:created:)``. `hopgate restore`
/// verifies the bytes with ``init(_:mounted:place:)`` and writes the result with ``Volume/restore(_:)``. The archive
/// (``TarArchive``) begins with a sealed ``BackupManifest`` that lists all other files with their digests;
/// ``BackupItem`` defines which names a backup may hold. A value, without I/O.
package struct Backup: Sendable {
    /// The highest number of bytes of an archive. More than 100,000 credentials and as many certificates fit.
    package static let sizeLimit = 1 << 30

    package let cluster: String
    package let created: String
    /// The release that created it.
    package let release: String
    package let holdsKeys: Bool
    /// The files, by the path that they have in the store.
    let files: [(item: BackupItem, content: ArraySlice<UInt8>)]

    package var credentialCount: Int {
        files.count { if case .value(let key, _) = $0.item { key.parent == BackupItem.agents } else { false } }
    }
    package var fileCount: Int { files.count }

    /// Verifies everything: the archive, names, sizes, duplicates, digests and seals.
    ///
    /// - Parameters:
    ///   - mounted: The keys of a mounted secret, or `nil`; with mounted keys the keys in the backup are left out.
    ///   - place: The name of the archive, for messages.
    package init(_ bytes: [UInt8], mounted: [ClusterKey]?, place: String) throws(StoreError) {
        guard bytes.count <= Self.sizeLimit else {
            throw StoreError(.tooLarge, place, "is larger than the \(Self.sizeLimit >> 20) MiB of a backup")
        }
        let entries = try TarReader.entries(bytes, place: place)
        guard let first = entries.first, first.name == BackupItem.manifest else {
            throw StoreError(
                .corrupt,
                place,
                "does not begin with \(BackupItem.manifest); it is not a backup of a store"
            )
        }
        let all = try Self.items(entries.dropFirst(), place)
        let clusterFile = try Self.clusterFile(all, place)
        let document = try ClusterDocument(Array(clusterFile.content), place: "\(place): cluster.json")
        let keyring = try Self.keyring(all, document, mounted, place)

        let manifest = try BackupManifest(Array(first.content), with: keyring, place: place)
        try Self.check(manifest, entries.dropFirst(), place)
        try Self.checkSeals(all, keyring, place)
        guard manifest.cluster == document.cluster else {
            throw StoreError(.corrupt, place, "combines files of two clusters; use another backup")
        }
        cluster = document.cluster
        created = manifest.created
        release = manifest.release
        files = mounted == nil ? all : all.filter { if case .key = $0.item { false } else { true } }
        holdsKeys = files.contains { if case .key = $0.item { true } else { false } }
    }
}

/// The cluster of a backup, and when and by which release it was created.
package struct BackupOrigin: Sendable {
    package var cluster: String
    /// The version of the binary.
    package var release: String
    /// Seconds since 1970.
    package var time: UInt64
    /// The same time as text.
    package var created: String

    package init(cluster: String, release: String, time: UInt64, created: String) {
        self.cluster = cluster
        self.release = release
        self.time = time
        self.created = created
    }
}

extension Backup {
    /// Creates an archive: the sealed list of contents first, then the files in their order.
    package static func pack(
        _ files: [(name: String, content: [UInt8])],
        _ origin: BackupOrigin,
        with key: ClusterKey
    ) throws(StoreError) -> [UInt8] {
        var listed: [String: BackupManifest.File] = [:]
        for (name, content) in files { listed[name] = BackupManifest.File(content) }
        let manifest = BackupManifest(
            cluster: origin.cluster,
            release: origin.release,
            created: origin.created,
            files: listed
        )
        var writer = TarWriter(time: origin.time)
        try writer.add(BackupItem.manifest, manifest.sealed(with: key))
        for (name, content) in files { try writer.add(name, content) }
        return writer.finish()
    }
}

extension Backup {
    private typealias File = (item: BackupItem, content: ArraySlice<UInt8>)

    private static func items(
        _ entries: ArraySlice<TarReader.Entry>,
        _ place: String
    ) throws(StoreError) -> [File] {
        var files: [File] = []
        var folders: Set<String> = []
        var values: Set<StoreKey> = []
        var generations: [StoreKey: Set<Generation>] = [:]
        var sizes: [String: Int] = [:]
        for entry in entries {
            let name = StoreKey.printable(entry.name)
            guard let item = BackupItem(entry.name) else {
                throw StoreError(.badName, place, "holds \(name), which is not a file of a store")
            }
            guard entry.content.count <= item.sizeLimit else {
                throw StoreError(.tooLarge, place, "\(name) is larger than the \(item.sizeLimit) bytes it may have")
            }
            switch item {
            case .value(let key, _):
                guard values.insert(key).inserted else {
                    throw StoreError(.corrupt, place, "holds two versions of \(key)")
                }
            case .file(let key, let generation, _):
                generations[key, default: []].insert(generation)
                sizes["\(key)/\(generation)", default: 0] += 1
            case .key: break
            }
            var above = Volume.folder(of: item.path)
            while !above.isEmpty, folders.insert(above).inserted { above = Volume.folder(of: above) }
            files.append((item, entry.content))
        }
        guard generations.values.allSatisfy({ $0.count <= Volume.generationsKept }),
            sizes.values.allSatisfy({ $0 <= Volume.filesPerGeneration })
        else {
            throw StoreError(.corrupt, place, "holds more generations or files of a certificate than a store keeps")
        }
        if let both = files.first(where: { folders.contains($0.item.path) }) {
            throw StoreError(.corrupt, place, "holds \(both.item.path) as a file and as a folder")
        }
        return files
    }

    private static func clusterFile(_ files: [File], _ place: String) throws(StoreError) -> File {
        let found = files.first { if case .value(let key, _) = $0.item { key == ClusterDocument.key } else { false } }
        guard let found else { throw StoreError(.corrupt, place, "holds no cluster.json; it is incomplete") }
        return found
    }

    private static func keyring(
        _ files: [File],
        _ document: ClusterDocument,
        _ mounted: [ClusterKey]?,
        _ place: String
    ) throws(StoreError) -> ClusterKeyring {
        if let mounted { return ClusterKeyring(mounted) }
        var keys: [String: ClusterKey] = [:]
        for case (.key(let id), let content) in files {
            guard content.count == ClusterKey.size, ClusterKey(secret: Array(content)).id == id else {
                throw StoreError(.corrupt, place, "holds a damaged key, \(id)")
            }
            guard document.keys.contains(id) else {
                throw StoreError(.corrupt, place, "holds a key that its cluster does not have, \(id)")
            }
            keys[id] = ClusterKey(secret: Array(content))
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

    private static func check(
        _ manifest: BackupManifest,
        _ entries: ArraySlice<TarReader.Entry>,
        _ place: String
    ) throws(StoreError) {
        for entry in entries where manifest.files[entry.name] != BackupManifest.File(entry.content) {
            throw StoreError(
                .corrupt,
                place,
                "\(StoreKey.printable(entry.name)) differs from what was backed up; it is damaged"
            )
        }
        guard manifest.files.count == entries.count else {
            throw StoreError(.corrupt, place, "lacks some of its files; it is incomplete")
        }
    }

    private static func checkSeals(
        _ files: [File],
        _ keyring: ClusterKeyring,
        _ place: String
    ) throws(StoreError) {
        for case (.value(let key, let version), let content) in files {
            let purpose: ClusterKey.Purpose
            switch key {
            case ClusterDocument.key: purpose = .cluster
            case _ where key.parent == BackupItem.agents && !Tombstone.isTombstone(Array(content.prefix(64))):
                purpose = .credential
            default: continue
            }
            _ = try SealedDocument.open(
                Array(content),
                purpose,
                context: "\(key)/\(version)",
                with: keyring,
                place: "\(place): \(key)/\(version)"
            )
        }
    }
}
