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
        try requireValues()
        for folder in Self.standardFolders {
            try ensureFolder(folder)
            try requireFolder(folder)
        }
        try requirePrivateRoot()
    }

    /// Verifies the folders that every store has as ``prepare()`` does, but creates none.
    ///
    /// - Throws: `refused` if the name belongs to something else or the folder is open to other users.
    package func requireFolders() throws(StoreError) {
        try requireValues()
        for folder in Self.standardFolders {
            do {
                try requireFolder(folder)
            } catch {
                // A start creates it.
                guard error.code == .notFound else { throw error }
            }
        }
        try requirePrivateRoot()
    }

    /// Verifies that a store that was founded has the folders of its values: without one of them they are lost, or
    /// somewhere else.
    func requireValues() throws(StoreError) {
        guard try namesIfPresent(in: StoreKey.clusterDocument.path) != nil else { return }
        for folder in StoreLayout.folders.sorted() {
            guard try namesIfPresent(in: folder) != nil else { throw disappeared(folder) }
        }
    }

    private static let standardFolders =
        StoreLayout.folders.sorted() + ["keys", "locks", replicas, temporaries, tombs]

    private func requireFolder(_ folder: String) throws(StoreError) {
        let status = try call { () throws(FileFault) in try files.status(folder) }
        switch status.kind {
        case .folder: try requirePrivate(status, folder, mode: "700")
        case .symbolicLink: throw storeError(for: FileFault(.mkdir, displayPath(folder), ELOOP))
        default: throw storeError(for: FileFault(.mkdir, displayPath(folder), ENOTDIR))
        }
    }

    /// Verifies the store's own folder: a user who may write to it could replace the folders in it.
    private func requirePrivateRoot() throws(StoreError) {
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
