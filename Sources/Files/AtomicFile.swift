import Glibc

/// Replacement of a secret file in one step: a reader sees either the previous contents or the new ones, whole.
///
/// Writes go to a temporary file of mode 0600 beside the target, which ``commit()`` renames over it. Without a commit
/// the temporary file is removed and the target stays as it was.
package struct AtomicFile: ~Copyable {
    /// The descriptor of the temporary file, open for reading and writing.
    package var number: Int32 { descriptor.number }

    private let descriptor: Descriptor
    /// The path of the target; if the operator named a symbolic link, the path of the file that it leads to.
    private let target: String
    private let folder: String
    private let temporary: String

    /// Creates the temporary file.
    ///
    /// - Throws: `wrongKind` if a folder, FIFO, socket or device exists at the path, or a symbolic link to one or to
    ///   nothing: renaming would destroy it.
    package init(at path: String) throws(FileError) {
        let target = try Self.resolve(path)
        let (folder, name) = splitPath(target)
        let temporary = "\(folder)/.\(name).\(UInt64.random(in: 0 ... .max)).tmp"
        let number = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard number >= 0 else {
            guard errno == ENOENT else { throw .last("create", path) }
            throw FileError(.notFound, path, "the folder \(folder) does not exist; create it first")
        }
        // The umask only removes bits; an inherited access list may add some.
        guard fchmod(number, 0o600) == 0 else {
            let error = FileError.last("chmod", path)
            close(number)
            unlink(temporary)
            throw error
        }
        descriptor = Descriptor(number)
        self.target = target
        self.folder = folder
        self.temporary = temporary
    }

    deinit { unlink(temporary) }

    /// Flushes the temporary file, renames it over the target and flushes the folder.
    package consuming func commit() throws(FileError) {
        try descriptor.synchronize(target)
        guard rename(temporary, target) == 0 else { throw .last("rename", target) }
        let parent = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard parent >= 0 else { throw .last("open", folder) }
        try Descriptor(parent).synchronize(folder)
    }

    /// Writes a whole file.
    package static func write(_ bytes: [UInt8], to path: String) throws(FileError) {
        let file = try AtomicFile(at: path)
        try file.descriptor.writeAll(bytes, path)
        try file.commit()
    }

    /// Verifies that a file can be written, as far as this can be known before: writes the bytes to a temporary file,
    /// flushes and removes it. The target stays as it is.
    package static func requireWritable(_ bytes: [UInt8], to path: String) throws(FileError) {
        let file = try AtomicFile(at: path)
        try file.descriptor.writeAll(bytes, path)
        try file.descriptor.synchronize(path)
    }

    /// Returns the path of the regular file to replace, or of the one to create.
    private static func resolve(_ path: String) throws(FileError) -> String {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            guard errno == ENOENT else { throw .last("stat", path) }
            return path
        }
        guard status.st_mode & S_IFMT == S_IFLNK else {
            try require(status, path)
            return path
        }
        guard let resolved = realpath(path, nil) else {
            throw FileError(.wrongKind, path, "is a symbolic link to nothing; remove it, or name another file")
        }
        defer { free(resolved) }
        let target = String(cString: resolved)
        guard lstat(target, &status) == 0 else { throw .last("stat", target) }
        try require(status, path)
        return target
    }

    private static func require(_ status: stat, _ path: String) throws(FileError) {
        guard status.st_mode & S_IFMT != S_IFREG else { return }
        throw FileError(
            .wrongKind,
            path,
            "is \(FileError.kind(status.st_mode)), which is not replaced; name a regular file, or a new one"
        )
    }
}
