import Glibc

/// The folders of the replicas and their archive.
extension Volume {
    static let replicas = "replicas"
    /// The folder of archived replica folders and removed keys, which are deleted later.
    static let tombs = "tombs"
    /// The highest number of bytes of a replica's information (the file `card`).
    package static let infoLimit = 16_384

    /// Creates the folders that every store has. If one of them is missing later, the volume is not mounted.
    ///
    /// - Throws: `refused` if the name belongs to something else or the folder is open to other users.
    package func prepare() throws(StoreError) {
        let isFounded = try namesIfPresent(in: StoreKey.clusterDocument.path) != nil
        for folder in StoreLayout.folders.sorted() where isFounded {
            guard try namesIfPresent(in: folder) != nil else { throw disappeared(folder) }
        }
        for folder in StoreLayout.folders.sorted() + ["keys", "locks", Self.replicas, Self.temporaries, Self.tombs] {
            try ensureFolder(folder)
            let status = try call { () throws(FileFault) in try files.status(folder) }
            switch status.kind {
            case .folder: try requirePrivate(status, folder, mode: "700")
            case .symbolicLink: throw storeError(for: FileFault(.mkdir, displayPath(folder), ELOOP))
            default: throw storeError(for: FileFault(.mkdir, displayPath(folder), ENOTDIR))
            }
        }
        // The store's own folder: a user who may write to it could replace the folders above.
        _ = try names(in: "", fresh: false)
    }

    /// Returns the incarnations that have a folder, dead or alive, bypassing every cache.
    package func replicaFolders() throws(StoreError) -> [Incarnation] {
        try revalidate(Self.replicas)
        return try names(in: Self.replicas, fresh: false).compactMap { name in
            if let incarnation = Incarnation(name) { return incarnation }
            count(\.badNames)
            return nil
        }.sorted()
    }

    /// Returns the information that a replica publishes in addition to its heartbeat.
    package func info(of replica: Incarnation) throws(StoreError) -> [UInt8] {
        try readFile("\(Self.replicas)/\(replica)/card", limit: Self.infoLimit)
    }

    /// Moves the folder of a dead replica to `tombs/`. A replica that is alive after all notices it with its next
    /// heartbeat and starts again as a new incarnation.
    package func archive(_ replica: Incarnation) throws(StoreError) {
        let from = "\(Self.replicas)/\(replica)"
        do {
            try files.rename(from, to: "\(Self.tombs)/\(replica)")
        } catch {
            switch error.kind {
            case .missing:
                // Another process moved it, the reply to our own rename was lost, or there never was such a replica.
                try call { () throws(FileFault) in try files.forceSync(Self.tombs) }
                do {
                    _ = try files.status("\(Self.tombs)/\(replica)")
                    return
                } catch {
                    throw storeError(for: error)
                }
            case .exists:
                try call { () throws(FileFault) in try files.rename(from, to: "\(Self.tombs)/\(replica)-\(nonce())") }
            default: throw storeError(for: error)
            }
        }
        try confirm(folder: Self.tombs)
        try confirm(folder: Self.replicas)
    }
}
