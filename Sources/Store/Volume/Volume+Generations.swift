/// Generations: sets of files that belong together, such as a certificate and its key, in folders
/// `gen-<epoch>-<counter>` that get their name by one rename. The epoch is fixed when a lease is acquired, so a holder
/// that has lost the lease without knowing it can never publish the highest generation.
extension Volume {
    /// The highest number of bytes of one file.
    package static let generationFileLimit = 1 << 20
    static let filesPerGeneration = 16
    /// The number of generations that are kept: readers may still be reading the last but one.
    static let generationsKept = 2

    /// Returns the generations of a key in rising order; empty if none was published.
    package func generations(_ key: StoreKey) throws(StoreError) -> [Generation] {
        try (namesIfPresent(in: key.path) ?? []).compactMap { Generation($0) }.sorted()
    }

    /// Publishes a set of files by one rename.
    ///
    /// - Parameter epoch: The epoch of the lease, which the caller has just checked.
    /// - Throws: `fenced` if a later holder has published; readers see no change then.
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
                throw fenced(key, "another process is publishing under the same lease")
            }
            count(\.repeatedReplies)
        }
        try confirm(folder: key.path)
        let after = try generations(key)
        try requireTop(key, after, epoch)
        count(\.published)
        writeHint(for: key)
        for old in after.filter({ $0 <= mine }).dropLast(Self.generationsKept) { erase("\(key.path)/\(old)") }
        return mine
    }

    /// Returns the highest generation that is complete and that `accepts` approves, for example because the certificate
    /// in it can be parsed.
    ///
    /// - Parameter names: The files of the generation to read.
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
                        // Deleted since it was listed, or the volume was unavailable for a moment; if every attempt
                        // ends here, it was never complete.
                        guard attempt == 2 else { continue nextListing }
                        guard try generations(key).contains(generation) else { continue nextListing }
                        count(\.corrupt)
                    case .refused, .tooLarge: break
                    // If the volume does not respond, an older generation would be a wrong result.
                    default: throw error
                    }
                }
            }
            throw StoreError(.notFound, displayPath(key.path), "has no usable generation")
        }
        throw StoreError(.transient, displayPath(key.path), "changes faster than it can be read; try again")
    }
}

extension Volume {
    private func requireTop(_ key: StoreKey, _ all: [Generation], _ epoch: UInt64) throws(StoreError) {
        guard let top = all.last, top.epoch > epoch else { return }
        throw fenced(key, "epoch \(top.epoch) has already published; the lease of epoch \(epoch) was lost")
    }

    private func fenced(_ key: StoreKey, _ reason: String) -> StoreError {
        StoreError(.fenced, displayPath(key.path), reason)
    }

    /// Writes a folder of durable files under a temporary name, which no reader uses.
    func writeFolder(_ set: [String: [UInt8]]) throws(StoreError) -> String {
        let path = "\(Self.temporaries)/\(nonce())"
        try requireOwnVolume()
        do {
            try files.makeFolder(path)
        } catch {
            guard error.kind == .missing || error.kind == .exists else { throw storeError(for: error) }
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
            throw storeError(for: error)
        }
        return path
    }

    /// Whether a rename that reported a failure has succeeded.
    func isPublished(
        _ set: [String: [UInt8]],
        at target: String,
        after fault: FileFault
    ) throws(StoreError) -> Bool {
        switch fault.kind {
        case .exists, .missing, .stale, .unreachable: break
        default: throw storeError(for: fault)
        }
        do throws(StoreError) {
            try call { () throws(FileFault) in try files.forceSync(Self.folder(of: target)) }
            for (name, bytes) in set where try readFile("\(target)/\(name)", limit: bytes.count) != bytes {
                return false
            }
            return true
        } catch {
            switch error.code {
            case .notFound: throw storeError(for: fault)
            case .tooLarge, .refused: return false
            default: throw StoreError(.unconfirmed, error.place, error.reason, fault: fault)
            }
        }
    }

    /// Removes a file, or a folder and its contents. Failures are ignored: what remains is swept later.
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
