import CStore
import Glibc

/// The store's folder on a file system that Linux has mounted.
///
/// The path to the root is configured by the operator and may contain symbolic links; it is resolved once. The root
/// itself (`v2` in the configured folder) may not be one unless the caller allows it, and below it no symbolic link is
/// followed on any component (openat2 with RESOLVE_NO_SYMLINKS, or component by component where the kernel or a
/// container's filter lacks that call).
package struct PosixFileSystem: FileSystem {
    package let root: String
    let descriptors: DescriptorOpener

    /// - Parameters:
    ///   - path: The folder of the store.
    ///   - creating: Whether to create the folder and the missing ones above it, with mode 0700.
    ///   - mayBeLink: Whether the folder itself may be a symbolic link, because it is the configured one.
    package init(path: String, creating: Bool, mayBeLink: Bool = false) throws(FileFault) {
        guard !path.isEmpty, !path.utf8.contains(0) else { throw FileFault(.open, path, EINVAL) }
        if creating { try Self.makeFolders(path) }
        root = mayBeLink ? try Self.resolved(path, configured: path) : try Self.resolvedFolder(of: path)
        descriptors = DescriptorOpener()
    }

    /// Resolves every symbolic link of a path.
    ///
    /// - Parameter configured: The path for messages.
    private static func resolved(_ path: String, configured: String) throws(FileFault) -> String {
        guard let resolved = realpath(path, nil) else { throw FileFault(.open, configured, errno) }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    /// Resolves the path to a folder that is not a symbolic link. Every call detects one that replaces it later.
    private static func resolvedFolder(of path: String) throws(FileFault) -> String {
        let parts = path.split(separator: "/", omittingEmptySubsequences: true)
        guard let name = parts.last, name != ".", name != ".." else { return try resolved(path, configured: path) }
        let folder = (path.hasPrefix("/") ? "/" : "./") + parts.dropLast().joined(separator: "/")
        let above = try resolved(folder, configured: path)
        let root = above == "/" ? "/\(name)" : "\(above)/\(name)"
        switch kind(of: root, followingLinks: false) {
        case nil: throw FileFault(.open, path, errno)
        case .symbolicLink: throw FileFault(.open, path, ELOOP)
        default: return root
        }
    }

    package func open(_ path: String, _ access: FileAccess) throws(FileFault) -> any OpenFile {
        let flags =
            switch access {
            case .read: O_RDONLY
            case .update: O_RDWR
            case .createNew: O_RDWR | O_CREAT | O_EXCL
            }
        let full = absolute(path)
        return try PosixFile(plain: try descriptors.open(full, flags, mode: 0o600, call: .open), full)
    }

    package func status(_ path: String) throws(FileFault) -> FileStatus {
        try withParent(of: path, .stat) { folder, name throws(FileFault) in
            var found = hop_file_status()
            guard hop_status_at(folder, name, &found) == 0 else { throw FileFault(.stat, absolute(path), errno) }
            return FileStatus(found)
        }
    }

    package func forceSync(_ folder: String) throws(FileFault) {
        let full = absolute(folder)
        let descriptor = try descriptors.open(full, O_RDONLY | O_DIRECTORY, call: .forceSync)
        defer { close(descriptor) }
        var found = hop_file_status()
        guard hop_status(descriptor, 1, &found) == 0 else { throw FileFault(.forceSync, full, errno) }
    }

    package func list(_ folder: String, fresh: Bool, limit: Int) throws(FileFault) -> FolderListing {
        try PosixFolder(opening: absolute(folder), with: descriptors).list(fresh: fresh, limit: limit)
    }

    package func openFolder(_ path: String) throws(FileFault) -> any OpenFolder {
        try PosixFolder(opening: absolute(path), with: descriptors)
    }

    package func link(_ path: String, to target: String) throws(FileFault) {
        try withParents(of: path, target, .link) { from, name, to, newName in linkat(from, name, to, newName, 0) }
    }

    package func rename(_ path: String, to target: String) throws(FileFault) {
        try withParents(of: path, target, .rename) { from, name, to, newName in renameat(from, name, to, newName) }
    }

    package func unlink(_ path: String) throws(FileFault) {
        try withParent(of: path, .unlink) { folder, name throws(FileFault) in
            guard unlinkat(folder, name, 0) == 0 else { throw FileFault(.unlink, absolute(path), errno) }
        }
    }

    package func makeFolder(_ path: String) throws(FileFault) {
        try withParent(of: path, .mkdir) { folder, name throws(FileFault) in
            guard mkdirat(folder, name, 0o700) == 0 else { throw FileFault(.mkdir, absolute(path), errno) }
        }
    }

    package func removeFolder(_ path: String) throws(FileFault) {
        try withParent(of: path, .rmdir) { folder, name throws(FileFault) in
            guard unlinkat(folder, name, AT_REMOVEDIR) == 0 else { throw FileFault(.rmdir, absolute(path), errno) }
        }
    }

    package func syncFolder(_ path: String) throws(FileFault) {
        let full = absolute(path)
        let descriptor = try descriptors.open(full, O_RDONLY | O_DIRECTORY, call: .syncFolder)
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw FileFault(.syncFolder, full, errno) }
    }
}

extension PosixFileSystem {
    func absolute(_ path: String) -> String { path.isEmpty ? root : "\(root)/\(path)" }

    /// Opens the parent folder of a path, for the system calls that take a folder and a name.
    private func withParent<Result>(
        of path: String,
        _ call: FileFault.Call,
        _ body: (_ folder: Int32, _ name: String) throws(FileFault) -> Result
    ) throws(FileFault) -> Result {
        let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
        let folder = slash.map { String(path[..<$0]) } ?? ""
        let name = slash.map { String(path[path.index(after: $0)...]) } ?? path
        let descriptor = try descriptors.open(absolute(folder), HOP_O_PATH | O_DIRECTORY, call: call)
        defer { close(descriptor) }
        return try body(descriptor, name)
    }

    /// Opens the parent folders of two paths.
    private func withParents(
        of path: String,
        _ target: String,
        _ call: FileFault.Call,
        _ body: (_ from: Int32, _ name: String, _ to: Int32, _ newName: String) -> Int32
    ) throws(FileFault) {
        try withParent(of: path, call) { from, name throws(FileFault) in
            try withParent(of: target, call) { to, newName throws(FileFault) in
                guard body(from, name, to, newName) == 0 else { throw FileFault(call, absolute(target), errno) }
            }
        }
    }

    /// Creates a folder and the missing ones above it.
    private static func makeFolders(_ path: String) throws(FileFault) {
        var missing: [String] = []
        var current = path
        // Walk up to the first folder that exists, then create those below it.
        while mkdir(current, 0o700) != 0 {
            let number = errno
            if number == EEXIST { break }
            guard number == ENOENT, let slash = current.lastIndex(of: "/"), slash != current.startIndex else {
                // On a read-only volume mkdir(2) fails for existing folders too; that is no failure here.
                if access(path, F_OK) == 0 { return }
                throw FileFault(.mkdir, current, number)
            }
            missing.append(current)
            current = String(current[..<slash])
        }
        for folder in missing.reversed() where mkdir(folder, 0o700) != 0 {
            guard errno == EEXIST else { throw FileFault(.mkdir, folder, errno) }
        }
    }
}

extension PosixFileSystem {
    /// Returns the kind of file at a path outside the store, or `nil` if it cannot be determined; errno then has the
    /// reason.
    package static func kind(of path: String, followingLinks: Bool) -> FileStatus.Kind? {
        var status = Glibc.stat()
        guard (followingLinks ? stat(path, &status) : lstat(path, &status)) == 0 else { return nil }
        return FileStatus.Kind(mode: status.st_mode)
    }
}
