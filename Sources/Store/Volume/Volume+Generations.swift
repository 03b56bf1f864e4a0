/// Sets of files that belong together, such as a certificate and its key: folders `gen-<epoch>-<counter>` that get their
/// name by one rename. The epoch is fixed when a lease is won, so whoever lost it without knowing can never publish the
/// highest generation.
extension Volume {
    package static let generationFileLimit = 1 << 20
    static let filesPerGeneration = 16
    /// The last two stay: readers may be in the middle of the one before.
    static let generationsKept = 2

    /// The generations of a key, in rising order; empty where none was published.
    package func generations(_ key: StoreKey) throws(StoreError) -> [Generation] {
        try (namesIfPresent(in: key.path) ?? []).compactMap { Generation($0) }.sorted()
    }

    /// Publishes a set of files by one rename.
    ///
    /// - Parameter epoch: of the lease that the caller holds and has just checked.
    /// - Throws: `fenced` if a later holder has published; then nothing that anybody reads was changed.
    package func publish(
        _ key: StoreKey,
        _ set: [String: [UInt8]],
        epoch: UInt64
    ) throws(StoreError) -> Generation {
        precondition(!set.isEmpty && set.count <= Self.filesPerGeneration && set.keys.allSatisfy(StoreKey.isComponent))
        let before = try generations(key)
        try requireTop(key, before, epoch)
        let counter = before.last { $0.epoch == epoch }.map { $0.counter + 1 } ?? 1
        let mine = Generation(epoch: epoch, counter: counter)
        let target = "\(key.path)/\(mine)"
        let temporary = try writeFolder(set)
        defer { erase(temporary) }
        try ensureFolder(key.path)
        do {
            try files.rename(temporary, to: target)
        } catch {
            guard try isPublished(set, at: target, after: error) else {
                throw fenced(key, "another process publishes under the same lease")
            }
            count(\.repeatedReplies)
        }
        try confirm(folder: key.path)
        let after = try generations(key)
        try requireTop(key, after, epoch)
        count(\.published)
        note(key)
        for old in after.filter({ $0 <= mine }).dropLast(Self.generationsKept) { erase("\(key.path)/\(old)") }
        return mine
    }

    /// The highest generation that is whole and that `accepts` takes. Dates are not judged here.
    ///
    /// - Parameter names: the files to read of each.
    package func newest(
        _ key: StoreKey,
        files names: [String],
        accepts: ([String: [UInt8]]) -> Bool = { _ in true }
    ) throws(StoreError) -> StoredGeneration {
        nextListing: for attempt in 0..<3 {
            for generation in try generations(key).reversed() {
                do throws(StoreError) {
                    var set: [String: [UInt8]] = [:]
                    for name in names {
                        let path = "\(key.path)/\(generation)/\(name)"
                        set[name] = try readFile(path, limit: Self.generationFileLimit)
                    }
                    if accepts(set) { return StoredGeneration(generation: generation, files: set) }
                    count(\.corrupt)
                } catch {
                    switch error.code {
                    case .notFound:
                        // Deleted since it was listed, or a volume that was away for a moment; or, if that is what
                        // every look says, never whole.
                        guard attempt == 2 else { continue nextListing }
                        guard try generations(key).contains(generation) else { continue nextListing }
                        count(\.corrupt)
                    case .refused, .tooLarge: break
                    // An older one is not the answer to a volume that does not answer.
                    default: throw error
                    }
                }
            }
            throw StoreError(.notFound, shown(key.path), "has no generation that can be used")
        }
        throw StoreError(.transient, shown(key.path), "changes faster than it can be read; try again")
    }
}

extension Volume {
    private func requireTop(_ key: StoreKey, _ all: [Generation], _ epoch: UInt64) throws(StoreError) {
        guard let top = all.last, top.epoch > epoch else { return }
        throw fenced(key, "epoch \(top.epoch) has published; the lease of epoch \(epoch) was lost")
    }

    private func fenced(_ key: StoreKey, _ reason: String) -> StoreError {
        StoreError(.fenced, shown(key.path), reason)
    }

    /// A folder of durable files under a name that nobody looks at.
    func writeFolder(_ set: [String: [UInt8]]) throws(StoreError) -> String {
        let path = "\(Self.temporaries)/\(nonce())"
        do {
            try files.makeFolder(path)
        } catch {
            guard error.kind == .missing || error.kind == .exists else { throw counted(error) }
            if error.kind == .missing {
                try ensureFolder(Self.temporaries)
                try call { () throws(FileFault) in try files.makeFolder(path) }
            }
        }
        do throws(FileFault) {
            for (name, bytes) in set.sorted(by: { $0.key < $1.key }) {
                _ = try write(bytes, "\(path)/\(name)", durable: true)
            }
            try files.syncFolder(path)
        } catch {
            erase(path)
            throw counted(error)
        }
        return path
    }

    /// Whether a rename that said otherwise has succeeded.
    func isPublished(
        _ set: [String: [UInt8]],
        at target: String,
        after fault: FileFault
    ) throws(StoreError) -> Bool {
        switch fault.kind {
        case .exists, .missing, .stale, .unreachable: break
        default: throw counted(fault)
        }
        do throws(StoreError) {
            try call { () throws(FileFault) in try files.forceSync(Self.folder(of: target)) }
            for (name, bytes) in set where try readFile("\(target)/\(name)", limit: bytes.count) != bytes {
                return false
            }
            return true
        } catch {
            switch error.code {
            case .notFound: throw counted(fault)
            case .tooLarge, .refused: return false
            default: throw StoreError(.unconfirmed, error.place, error.reason, fault: fault)
            }
        }
    }

    /// Removes a file or a folder with what is in it, as well as it can be done.
    func erase(_ path: String, depth: Int = 3) {
        guard depth > 0 else { return }
        if let listing = try? files.list(path, fresh: false, limit: 100_000) {
            for name in listing.names { erase("\(path)/\(name)", depth: depth - 1) }
            try? files.removeFolder(path)
        } else {
            try? files.unlink(path)
        }
    }
}
