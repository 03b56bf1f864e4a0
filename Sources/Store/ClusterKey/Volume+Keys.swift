import Formats

/// The files of the cluster's keys.
extension Volume {
    /// Reads a key file, or returns `nil` if there is none.
    ///
    /// - Parameter document: The location of cluster.json, which may be the forged one of the two.
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
        let remedy = "; \(document) names it: extract \(path) from a backup, which is a tar file"
        guard bytes.count == ClusterKey.size else { throw corrupt(path, "is not a key\(remedy)") }
        let key = ClusterKey(secret: bytes)
        guard key.id == id else { throw corrupt(path, "holds a different key than its name states\(remedy)") }
        return key
    }

    /// Creates the file of a key, unless it exists.
    func createKey(_ key: ClusterKey) throws(StoreError) {
        let path = "\(ClusterDocument.keyFolder)/\(key.id)"
        try ensureFolder(ClusterDocument.keyFolder)
        guard try create(path, key.storedBytes, suffix: Self.temporarySuffix(forSecret: path)) else {
            throw StoreError(
                .exists(newest: 0),
                displayPath(path),
                "has other contents; delete it with: rm \(shellWord(displayPath(path)))"
            )
        }
    }

    /// Deletes a key that no document names any more, and temporary files with it that processes have left.
    func removeKey(_ id: String) throws(StoreError) {
        let path = "\(ClusterDocument.keyFolder)/\(id)"
        try call { () throws(FileFault) in try files.unlink(path) }
        eraseTemporaries(suffix: Self.temporarySuffix(forSecret: path))
    }
}
