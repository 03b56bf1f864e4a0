internal import Glibc

/// Publication: temporary file → fsync → rename or link → fsync of the folder.
extension Volume {
    /// Where files are written before they get their names; what a crash leaves there is swept.
    static let temporaries = "tmp"

    /// How a file of ours is known again when the answer to a call was lost.
    enum Recognition {
        /// By its bytes, which hold something random.
        case content
        /// By its bytes and its inode number: others may write the same bytes.
        case contentAndInode
    }

    struct Temporary {
        let path: String
        let inode: UInt64
    }

    /// Makes a file if nobody did so first; says whether this call made it. Of many callers exactly one hears true.
    ///
    /// - Parameter durable: false for hints that may be lost in a crash.
    /// - Throws: `notFound` if the folder is missing, `unconfirmed` if the file may be there but not for good.
    func create(
        _ path: String,
        _ bytes: [UInt8],
        _ recognition: Recognition,
        durable: Bool = true
    ) throws(StoreError) -> Bool {
        let temporary = try writeTemporary(bytes, durable: durable)
        defer { try? files.unlink(temporary.path) }
        do {
            try files.link(temporary.path, to: path)
        } catch {
            guard try isOurs(temporary, at: path, bytes, recognition, after: error) else { return false }
            count(\.repeatedReplies)
        }
        if durable { try confirm(folder: Self.folder(of: path)) }
        return true
    }

    /// Makes a file or replaces it in one step. Only for files that one process writes; the bytes are its own.
    func put(_ path: String, _ bytes: [UInt8]) throws(StoreError) {
        let temporary = try writeTemporary(bytes, durable: true)
        do {
            try files.rename(temporary.path, to: path)
        } catch {
            defer { try? files.unlink(temporary.path) }
            // A server may repeat a request whose answer was lost: then the name already is our file.
            guard try isOurs(temporary, at: path, bytes, .content, after: error) else { throw counted(error) }
            count(\.repeatedReplies)
        }
        try confirm(folder: Self.folder(of: path))
    }

    /// A complete file under a name that nobody looks at. After a failed fsync it is thrown away, never synced again.
    func writeTemporary(_ bytes: [UInt8], durable: Bool) throws(StoreError) -> Temporary {
        let path = "\(Self.temporaries)/\(nonce())"
        do {
            return try write(bytes, path, durable: durable)
        } catch {
            guard error.kind == .missing else { throw counted(error) }
        }
        try ensureFolder(Self.temporaries)
        return try call { () throws(FileFault) in try write(bytes, path, durable: durable) }
    }

    func write(_ bytes: [UInt8], _ path: String, durable: Bool) throws(FileFault) -> Temporary {
        let file = try files.open(path, .createNew)
        do {
            try writeAll(bytes[...], to: file, at: 0, path)
            if durable { try file.sync() }
            return Temporary(path: path, inode: file.status.inode)
        } catch {
            try? files.unlink(path)
            throw error
        }
    }

    func writeAll(
        _ bytes: ArraySlice<UInt8>,
        to file: any OpenFile,
        at offset: UInt64,
        _ path: String
    ) throws(FileFault) {
        var rest = bytes
        var position = offset
        while !rest.isEmpty {
            let count = try file.write(rest, at: position)
            guard count > 0 else { throw FileFault(.write, path, EIO) }
            rest = rest.dropFirst(count)
            position += UInt64(count)
        }
    }

    /// Makes a folder and those above it, and their names durable, whoever made them: what is published in them later
    /// must not depend on another process getting that far.
    func ensureFolder(_ path: String) throws(StoreError) {
        guard !path.isEmpty else { return }
        let above = Self.folder(of: path)
        do {
            try files.makeFolder(path)
        } catch {
            switch error.kind {
            case .exists: break
            case .missing where !above.isEmpty:
                try ensureFolder(above)
                do {
                    try files.makeFolder(path)
                } catch {
                    guard error.kind == .exists else { throw counted(error) }
                }
            case .missing:
                throw StoreError(.gone, files.root, "the store's folder is not there; is the volume mounted?")
            default: throw counted(error)
            }
        }
        try confirm(folder: above)
    }

    /// Makes the names in a folder durable. The change is visible already, so a failure says that nobody knows.
    func confirm(folder: String) throws(StoreError) {
        do {
            try files.syncFolder(folder)
        } catch {
            let cause = counted(error)
            // Where the whole folder went away nothing of it is there to be confirmed.
            if cause.code == .notFound { throw cause }
            let reason = "the change may be lost in a crash (\(cause.reason)); look again before it is repeated"
            throw StoreError(.unconfirmed, shown(folder), reason, fault: error)
        }
    }

    /// Whether the name stands for our file, after a call that may have succeeded although it said otherwise.
    private func isOurs(
        _ temporary: Temporary,
        at path: String,
        _ bytes: [UInt8],
        _ recognition: Recognition,
        after fault: FileFault
    ) throws(StoreError) -> Bool {
        switch fault.kind {
        case .exists, .missing, .stale, .unreachable: break
        default: throw counted(fault)
        }
        // The target as it is now, past every cache.
        let file: any OpenFile
        do {
            try files.forceSync(Self.folder(of: path))
            file = try files.open(path, .read)
        } catch {
            if error.kind == .missing {
                guard fault.kind != .exists else {
                    // Taken a moment ago and now gone: the folder was moved or pruned. Let the caller look again.
                    throw StoreError(.transient, shown(path), "was taken and is gone again", fault: fault)
                }
                throw counted(fault)
            }
            throw StoreError(.unconfirmed, shown(path), "cannot be read back after \(fault)", fault: error)
        }
        let mayBe = recognition == .content || file.status.inode == temporary.inode
        if mayBe, file.status.size == UInt64(bytes.count) {
            do throws(StoreError) {
                if try contents(of: file, path, limit: bytes.count).bytes == bytes { return true }
            } catch {
                // What is open to others is not ours; what cannot be read may be.
                guard error.code == .refused || error.code == .tooLarge else {
                    throw StoreError(
                        .unconfirmed,
                        shown(path),
                        "cannot be read back after \(fault)",
                        fault: error.fault
                    )
                }
            }
        }
        if fault.kind == .exists { return false }
        // Somebody else's file is there, so ours is not; a call that failed has not taken effect and will not.
        if recognition == .content, fault.call == .rename { throw counted(fault) }
        return false
    }
}
