internal import Glibc

/// The folders of the replicas, and what becomes of them.
extension Volume {
    static let replicas = "replicas"
    static let tombs = "tombs"
    package static let cardLimit = 16_384

    /// Makes the folders that every store has. Names that are missing later mean that the volume is not there.
    ///
    /// - Throws: `refused` when something else has such a name, or when others may use such a folder.
    package func prepare() throws(StoreError) {
        for folder in ["agents", "acme", "certs", "keys", "locks", Self.replicas, Self.temporaries, Self.tombs] {
            try ensureFolder(folder)
            let status = try call { () throws(FileFault) in try files.status(folder) }
            switch status.kind {
            case .folder: try requirePrivate(status, folder, mend: "700")
            case .symbolicLink: throw counted(FileFault(.mkdir, shown(folder), ELOOP))
            default: throw counted(FileFault(.mkdir, shown(folder), ENOTDIR))
            }
        }
        // The store's own folder: whoever may change it puts others in the place of those above.
        _ = try names(in: "", fresh: false)
    }

    /// The processes that have a folder, dead or alive, past every cache.
    package func replicaFolders() throws(StoreError) -> [Incarnation] {
        try askServer(Self.replicas)
        return try names(in: Self.replicas, fresh: false).compactMap { name in
            if let incarnation = Incarnation(name) { return incarnation }
            count(\.badNames)
            return nil
        }.sorted()
    }

    package func card(of replica: Incarnation) throws(StoreError) -> [UInt8] {
        try readFile("\(Self.replicas)/\(replica)/card", limit: Self.cardLimit)
    }

    /// Moves the folder of a dead replica to `tombs/`. If it is not dead after all it notices, and starts again as a
    /// new incarnation.
    package func bury(_ replica: Incarnation) throws(StoreError) {
        let from = "\(Self.replicas)/\(replica)"
        do {
            try files.rename(from, to: "\(Self.tombs)/\(replica)")
        } catch {
            switch error.kind {
            case .missing:
                // Somebody else did it, or the answer to our own rename was lost; or there never was such a replica.
                try call { () throws(FileFault) in try files.forceSync(Self.tombs) }
                do {
                    _ = try files.status("\(Self.tombs)/\(replica)")
                    return
                } catch {
                    throw counted(error)
                }
            case .exists:
                try call { () throws(FileFault) in try files.rename(from, to: "\(Self.tombs)/\(replica)-\(nonce())") }
            default: throw counted(error)
            }
        }
        try confirm(folder: Self.tombs)
        try confirm(folder: Self.replicas)
    }
}
