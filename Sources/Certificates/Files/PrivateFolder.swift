import Glibc

/// A folder that only this gateway uses: mode 0700, its files 0600, no symbolic link followed inside.
///
/// It is the way to every file that the gateway writes itself (development CA, credentials). A value holds no
/// descriptor: each operation opens the folder anew by path, so a folder that was replaced or mounted over is noticed.
/// Every call does blocking I/O and belongs on a thread of its own, never on an event loop.
package struct PrivateFolder: Sendable, Equatable {
    package let path: String

    package init(path: String) {
        self.path = path
    }

    /// Opens the folder, making it and what is missing above it. An existing one must be ours alone.
    package static func make(path: String) throws(FileError) -> PrivateFolder {
        let folder = PrivateFolder(path: path)
        try makeFolders(path)
        _ = try folder.open()
        return folder
    }

    /// The bytes of one file.
    ///
    /// Refused: symbolic links, anything but a plain file, files that users outside our group may read or write, and
    /// more than `limit` bytes.
    package func read(_ name: String, limit: Int) throws(FileError) -> [UInt8] {
        let folder = try open()
        return try read(name, limit: limit, in: folder)
    }

    /// The same, or nil when there is no such file.
    package func readIfPresent(_ name: String, limit: Int) throws(FileError) -> [UInt8]? {
        do {
            return try read(name, limit: limit)
        } catch {
            guard error.code == .notFound else { throw error }
            return nil
        }
    }

    /// The names of the files that stand here, sorted; names that begin with a dot are temporary files and left out.
    package func list() throws(FileError) -> [String] {
        let folder = try open()
        let copy = fcntl(folder.number, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { throw .last("dup", path) }
        guard let stream = fdopendir(copy) else {
            let error = FileError.last("opendir", path)
            close(copy)
            throw error
        }
        defer { closedir(stream) }
        var names: [String] = []
        errno = 0
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if !name.hasPrefix(".") { names.append(name) }
            errno = 0
        }
        guard errno == 0 else { throw .last("readdir", path) }
        return names.sorted()
    }

    /// True for `[A-Za-z0-9._-]`, 1 to 128 characters, not beginning with a dot.
    package static func isValidName(_ name: String) -> Bool {
        guard (1...128).contains(name.utf8.count), name.utf8.first != UInt8(ascii: ".") else { return false }
        return name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                true
            default: false
            }
        }
    }
}

extension PrivateFolder {
    func open() throws(FileError) -> Descriptor {
        let number = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard number >= 0 else {
            // O_DIRECTORY answers ENOTDIR for a symbolic link too; say which of both it is.
            guard errno == ENOTDIR else { throw .last("open", path) }
            throw Self.isSymbolicLink(path)
                ? .symbolicLink(path) : FileError(.wrongKind, path, "is a file; a folder has to be here")
        }
        let folder = Descriptor(number)
        try Self.requirePrivate(try folder.status(path), path, mend: "700")
        return folder
    }

    func read(_ name: String, limit: Int, in folder: borrowing Descriptor) throws(FileError) -> [UInt8] {
        let full = try fullPath(name)
        // O_NONBLOCK: opening a pipe that somebody left here must not wait for a writer.
        let number = openat(folder.number, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard number >= 0 else { throw .last("open", full) }
        let file = Descriptor(number)
        try Self.requirePrivate(try file.status(full), full, mend: "600")
        return try file.readAll(full, limit: limit)
    }

    func fullPath(_ name: String) throws(FileError) -> String {
        guard Self.isValidName(name) else {
            throw FileError(.badName, path, "no file here may have the name \"\(name)\"")
        }
        return "\(path)/\(name)"
    }

    /// Others may have no access at all. Group bits are taken only for a group of our own: a volume that is mounted for
    /// a group turns 0700 into 2770. The owner is not judged: some network file systems impose one.
    static func requirePrivate(_ status: stat, _ path: String, mend mode: String) throws(FileError) {
        let others = status.st_mode & 0o007 != 0
        let foreignGroup = status.st_mode & 0o070 != 0 && !isOwnGroup(status.st_gid)
        guard others || foreignGroup else { return }
        throw FileError(
            .openToOthers,
            path,
            "is open to other users (mode \(String(status.st_mode & 0o7777, radix: 8))); mend it with: chmod \(mode) \(path)"
        )
    }

    private static func isOwnGroup(_ group: gid_t) -> Bool {
        if group == getegid() { return true }
        let count = getgroups(0, nil)
        guard count > 0 else { return false }
        var groups = [gid_t](repeating: 0, count: Int(count))
        let filled = getgroups(count, &groups)
        return filled > 0 && groups.prefix(Int(filled)).contains(group)
    }

    private static func isSymbolicLink(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFLNK
    }

    private static func makeFolders(_ path: String) throws(FileError) {
        var missing: [String] = []
        var current = path
        // Walk up to the first folder that exists, then make what is below it.
        while mkdir(current, 0o700) != 0 {
            let number = errno
            if number == EEXIST { break }
            guard number == ENOENT, let slash = current.lastIndex(of: "/"), slash != current.startIndex else {
                throw .last("mkdir", current)
            }
            missing.append(current)
            current = String(current[..<slash])
        }
        for folder in missing.reversed() where mkdir(folder, 0o700) != 0 {
            guard errno == EEXIST else { throw .last("mkdir", folder) }
        }
    }
}
