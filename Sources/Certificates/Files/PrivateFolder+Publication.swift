import Glibc

/// Publication: temporary file → fsync → rename or link → fsync of the folder. A reader sees all of a file or none of
/// it.
extension PrivateFolder {
    /// Replaces the file, or makes it, in one step.
    package func publish(_ name: String, _ bytes: [UInt8]) throws(FileError) {
        let full = try fullPath(name)
        let folder = try open()
        let temporary = try writeTemporary(bytes, in: folder)
        if renameat(folder.number, temporary, folder.number, name) != 0 {
            let error = FileError.last("rename", full)
            unlinkat(folder.number, temporary, 0)
            // A network file system may repeat a request whose answer was lost: then the file already is what we wrote.
            guard error.code == .notFound, isSame(name, bytes, in: folder) else { throw error }
        }
        try folder.synchronise(path)
    }

    /// Makes the file if no other process did so first; says whether it was made. Of two processes exactly one hears
    /// true.
    ///
    /// - Parameter bytes: must hold something random, by which a process knows its own file again.
    package func create(_ name: String, _ bytes: [UInt8]) throws(FileError) -> Bool {
        let full = try fullPath(name)
        let folder = try open()
        let temporary = try writeTemporary(bytes, in: folder)
        defer { unlinkat(folder.number, temporary, 0) }
        if linkat(folder.number, temporary, folder.number, name, 0) != 0 {
            guard errno == EEXIST else { throw .last("link", full) }
            // The answer to our own first try may have been lost: our bytes in it mean that we won.
            guard isSame(name, bytes, in: folder) else { return false }
        }
        try folder.synchronise(path)
        return true
    }

    /// The name of the temporary file, complete and on disk. A failed fsync is never repeated: the file is thrown away.
    private func writeTemporary(_ bytes: [UInt8], in folder: borrowing Descriptor) throws(FileError) -> String {
        let name = ".tmp-\(getpid())-\(String(UInt64.random(in: .min ... .max), radix: 16))"
        let full = "\(path)/\(name)"
        let number = openat(folder.number, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard number >= 0 else { throw .last("create", full) }
        let file = Descriptor(number)
        do {
            try file.writeAll(bytes, full)
            try file.synchronise(full)
        } catch {
            unlinkat(folder.number, name, 0)
            throw error
        }
        return name
    }

    private func isSame(_ name: String, _ bytes: [UInt8], in folder: borrowing Descriptor) -> Bool {
        (try? read(name, limit: bytes.count, in: folder)) == bytes
    }
}
