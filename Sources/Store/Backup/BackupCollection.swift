/// The files collected for a backup.
struct BackupCollection {
    let place: String
    private(set) var files: [(item: BackupItem, content: [UInt8])] = []
    private var size = 0
    var notes: [String] = []

    init(place: String) {
        self.place = place
    }

    mutating func add(_ item: BackupItem, _ content: [UInt8]) throws(StoreError) {
        // A header and the padding of the last block; the list of contents has about 150 bytes per file.
        size += content.count + 2 * TarArchive.block
        guard size <= Backup.sizeLimit, files.count < TarReader.entryLimit - 1 else {
            throw StoreError(
                .tooLarge,
                place,
                "has more than a backup can hold (\(Backup.sizeLimit >> 20) MiB, \(TarReader.entryLimit) files); "
                    + "copy the whole folder instead"
            )
        }
        files.append((item, content))
    }

    /// Notes a file that is left out because a gateway would not accept it. Rethrows other failures, such as of the
    /// volume.
    mutating func skip(_ error: StoreError) throws(StoreError) {
        switch error.code {
        case .refused, .tooLarge, .corrupt, .foreign, .badName: notes.append("\(error): left out")
        default: throw error
        }
    }

    mutating func remove(generationsOf key: StoreKey) {
        files.removeAll { if case .file(let other, _, _) = $0.item { other == key } else { false } }
    }

    func archive(
        _ cluster: ClusterIdentity,
        release: String,
        time: UInt64,
        created: String
    ) throws(StoreError) -> BackupArchive {
        let bytes = try Backup.pack(
            files.map { (BackupItem.prefix + $0.item.path, $0.content) },
            BackupOrigin(cluster: cluster.id, release: release, time: time, created: created),
            with: cluster.keyring.signing
        )
        return BackupArchive(
            bytes: bytes,
            cluster: cluster.id,
            holdsKeys: files.contains { if case .key = $0.item { true } else { false } },
            fileCount: files.count,
            notes: notes
        )
    }
}
