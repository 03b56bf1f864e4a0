import Formats
import Glibc

/// Publication of single files: temporary file → fsync → rename or link → fsync of the folder.
extension Volume {
    /// The folder in which files are written before they get their names. Files left there by a crash are swept.
    static let temporaries = "tmp"

    /// Creates a file unless the name is taken. The bytes have to be unique, so that the file is recognised as our own
    /// when the result of a call was lost. Returns whether this call created it: of several concurrent callers
    /// exactly one gets `true`.
    ///
    /// - Parameters:
    ///   - suffix: The end of the temporary name, by which ``eraseTemporaries(suffix:)`` finds it.
    ///   - durable: Whether to fsync file and folder; `false` for hints that may be lost in a crash.
    /// - Throws: `notFound` if the folder is missing, `unconfirmed` if the file exists but may not survive a crash.
    func create(
        _ path: String,
        _ bytes: [UInt8],
        suffix: String = "",
        durable: Bool = true
    ) throws(StoreError) -> Bool {
        let temporary = try writeTemporary(bytes, suffix: suffix, durable: durable)
        defer { try? files.unlink(temporary) }
        do {
            try files.link(temporary, to: path)
        } catch {
            do throws(StoreError) {
                guard try isOurs(path, bytes, after: error) else { return false }
            } catch let failure {
                // Another writer of the same secret has deleted the temporary file.
                guard !suffix.isEmpty, error.kind == .missing, isMissing(temporary) else { throw failure }
                return false
            }
            count(\.repeatedReplies)
        }
        if durable { try confirm(folder: Self.folder(of: path)) }
        return true
    }

    /// Creates or replaces a file in one step. Only for files that a single process writes and whose bytes are unique.
    func put(_ path: String, _ bytes: [UInt8]) throws(StoreError) {
        let temporary = try writeTemporary(bytes, durable: true)
        do {
            try files.rename(temporary, to: path)
        } catch {
            defer { try? files.unlink(temporary) }
            // A server may execute a request twice when its reply was lost: then the name already is our file.
            guard try isOurs(path, bytes, after: error) else { throw storeError(for: error) }
            count(\.repeatedReplies)
        }
        try confirm(folder: Self.folder(of: path))
    }

    /// Writes a complete file under a temporary name, which no reader uses. After a failed fsync the file is deleted
    /// and never synced again.
    package func writeTemporary(_ bytes: [UInt8], suffix: String = "", durable: Bool) throws(StoreError) -> String {
        try requireOwnVolume()
        let path = "\(Self.temporaries)/\(nonce())\(suffix)"
        do {
            try write(bytes, path, durable: durable)
            return path
        } catch {
            guard error.kind == .missing else { throw storeError(for: error) }
        }
        try ensureFolder(Self.temporaries)
        try call { () throws(FileFault) in try write(bytes, path, durable: durable) }
        return path
    }

    func isMissing(_ path: String) -> Bool {
        do {
            _ = try files.status(path)
            return false
        } catch {
            return error.kind == .missing
        }
    }

    /// The end of the names of temporary files with the value of a key, or "" unless it is a secret. Keys may share it.
    package static func temporarySuffix(for key: StoreKey) -> String {
        StoreLayout.isSecret(key) ? temporarySuffix(forSecret: key.path) : ""
    }

    package static func temporarySuffix(forSecret path: String) -> String { "-\(CRC32C.checksum(Array(path.utf8)))" }

    /// The end of the name of a folder in ``temporaries`` for the values of one call of ``createAll(_:content:)``, so
    /// that calls at the same time do not wait for the lock of one folder.
    static let groupSuffix = "-group"

    /// Deletes temporary files with a secret, which writers have left that ended, and all groups. A writer that is
    /// still at work notices it and decides again. What cannot be deleted now is swept later.
    func eraseTemporaries(suffix: String) {
        guard let names = try? names(in: Self.temporaries, fresh: true) else { return }
        let found = names.filter { $0.hasSuffix(suffix) || $0.hasSuffix(Self.groupSuffix) }
        for name in found { erase("\(Self.temporaries)/\(name)") }
        if !found.isEmpty { try? files.syncFolder(Self.temporaries) }
    }

    func write(_ bytes: [UInt8], _ path: String, durable: Bool) throws(FileFault) {
        let file = try files.open(path, .createNew)
        do {
            try writeAll(bytes[...], to: file, at: 0, path)
            if durable { try file.sync() }
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

    /// Writes a folder of durable files under a temporary name, which no reader uses.
    ///
    /// - Parameter folder: The folder of that name.
    func writeFolder(_ set: [String: [UInt8]], in folder: String = temporaries) throws(StoreError) -> String {
        let path = "\(folder)/\(nonce())"
        try requireOwnVolume()
        do {
            try files.makeFolder(path)
        } catch {
            guard error.kind == .missing || error.kind == .exists else { throw storeError(for: error) }
            if error.kind == .missing {
                try ensureFolder(folder)
                try call { () throws(FileFault) in try files.makeFolder(path) }
            }
        }
        do throws(FileFault) {
            for (name, bytes) in set.sorted(by: { $0.key < $1.key }) {
                try write(bytes, "\(path)/\(name)", durable: true)
            }
            try files.syncFolder(path)
        } catch {
            erase(path)
            throw storeError(for: error)
        }
        return path
    }

    /// Removes a file, or a folder that was put in its place.
    func unlink(_ path: String) {
        do {
            try files.unlink(path)
        } catch {
            if error.kind == .wrongKind { erase(path) }
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

    /// Creates a folder and its parents and makes their names durable, even those that another process created: what is
    /// published in them later must not depend on that process.
    func ensureFolder(_ path: String) throws(StoreError) {
        guard !path.isEmpty else { return }
        try requireOwnVolume()
        let above = Self.folder(of: path)
        do {
            try files.makeFolder(path)
        } catch {
            switch error.kind {
            case .exists: break
            case .missing where !above.isEmpty:
                if StoreLayout.folders.contains(above) { try requireValues() }
                try ensureFolder(above)
                do {
                    try files.makeFolder(path)
                } catch {
                    guard error.kind == .exists else { throw storeError(for: error) }
                }
            case .missing:
                throw StoreError(.gone, files.root, "the store's folder is not there; is the volume mounted?")
            default: throw storeError(for: error)
            }
        }
        try confirm(folder: above)
    }

    /// Makes the names in a folder durable. The change is already visible, so after a failure its outcome is unknown
    /// (`unconfirmed`).
    func confirm(folder: String) throws(StoreError) {
        do {
            try files.syncFolder(folder)
        } catch {
            let cause = storeError(for: error)
            // If the folder itself is gone there is nothing to confirm.
            if cause.code == .notFound { throw cause }
            let reason = "the change may be lost in a crash (\(cause.reason)); read again before repeating it"
            throw StoreError(.unconfirmed, displayPath(folder), reason, fault: error)
        }
    }

    /// Whether the name refers to our file, after a call that may have succeeded although it reported a failure.
    private func isOurs(_ path: String, _ bytes: [UInt8], after fault: FileFault) throws(StoreError) -> Bool {
        switch fault.kind {
        case .exists, .missing, .stale, .unreachable: break
        default: throw storeError(for: fault)
        }
        // Open the current target, bypassing every cache.
        let file: any OpenFile
        do {
            try files.forceSync(Self.folder(of: path))
            file = try files.open(path, .read)
        } catch {
            if error.kind == .missing {
                guard fault.kind != .exists else {
                    // The name was taken a moment ago and is gone: the folder was moved or pruned. The caller has to
                    // retry.
                    throw StoreError(
                        .transient,
                        displayPath(path),
                        "was taken and has disappeared again; try again",
                        fault: fault
                    )
                }
                throw storeError(for: fault)
            }
            throw StoreError(
                .unconfirmed,
                displayPath(path),
                "cannot be read back after \(fault); read again before repeating the change",
                fault: error
            )
        }
        if file.status.size == UInt64(bytes.count) {
            do throws(StoreError) {
                if try contents(of: file, path, limit: bytes.count).bytes == bytes { return true }
            } catch {
                // A file that is open to others or too large is not ours; one that cannot be read may be.
                guard error.code == .refused || error.code == .tooLarge else {
                    throw StoreError(
                        .unconfirmed,
                        displayPath(path),
                        "cannot be read back after \(fault); read again before repeating the change",
                        fault: error.fault
                    )
                }
            }
        }
        if fault.kind == .exists { return false }
        // Another process's file has the name, so the failed call has had no effect and will have none.
        if fault.call == .rename { throw storeError(for: fault) }
        return false
    }
}
