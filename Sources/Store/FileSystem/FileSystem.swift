/// The file-system calls that the store uses.
///
/// Paths are relative to the root of the store, components are joined by "/", and no component may be a symbolic link.
/// Each call resolves its path again, so that a folder that was renamed away or mounted over is noticed. Every call
/// blocks, possibly for ever, and belongs on a thread of the store.
///
/// The implementations are ``PosixFileSystem``, ``MemoryFileSystem`` and, in tests, a simulated network file system.
package protocol FileSystem: Sendable {
    /// The absolute path of the root, for messages.
    var root: String { get }

    /// Opens a regular file. Any other kind of file is a fault.
    func open(_ path: String, _ access: FileAccess) throws(FileFault) -> any OpenFile

    /// Returns the attributes of a file or folder. A network file system may answer from a cache that is a minute old.
    func status(_ path: String) throws(FileFault) -> FileStatus

    /// Asks the server about a folder, bypassing every cache: after this call, listings of the folder and the absence
    /// of names in it are no older than the call (statx with AT_STATX_FORCE_SYNC).
    func forceSync(_ folder: String) throws(FileFault)

    /// Returns the names in a folder, in no particular order, without "." and "..".
    ///
    /// - Parameters:
    ///   - fresh: Whether to ask the server first, as ``forceSync(_:)`` does; otherwise the listing may come from a
    ///     cache.
    ///   - limit: The highest number of names; more are a fault (EFBIG), because the store does not create such a
    ///     folder.
    func list(_ folder: String, fresh: Bool, limit: Int) throws(FileFault) -> FolderListing

    /// Opens a folder, for callers that read a file in each of thousands of folders.
    func openFolder(_ path: String) throws(FileFault) -> any OpenFolder

    /// Gives a file another name. Fails if the name is taken: of several concurrent callers exactly one succeeds.
    func link(_ path: String, to target: String) throws(FileFault)

    /// Renames a file (replacing the target) or a folder (onto an unused name or an empty folder).
    func rename(_ path: String, to target: String) throws(FileFault)

    func unlink(_ path: String) throws(FileFault)

    /// Creates a folder that only its owner may use. Its parent has to exist.
    func makeFolder(_ path: String) throws(FileFault)

    /// Removes an empty folder.
    func removeFolder(_ path: String) throws(FileFault)

    /// Makes the names in a folder durable (fsync).
    func syncFolder(_ path: String) throws(FileFault)
}

/// An open folder, whose path need not be resolved again. Confined to one thread at a time; closed when deallocated.
package protocol OpenFolder: AnyObject {
    /// Returns the names in the folder. They are no older than the opening of the folder, which is what makes a client
    /// of a network file system ask the server (close-to-open consistency).
    func list(limit: Int) throws(FileFault) -> FolderListing

    /// Opens a regular file in the folder for reading.
    func open(_ name: String) throws(FileFault) -> any OpenFile

    func openFolder(_ name: String) throws(FileFault) -> any OpenFolder
}

extension FileSystem {
    package func openFolder(_ path: String) throws(FileFault) -> any OpenFolder { NamedFolder(files: self, path: path) }
}

/// A folder whose path is resolved by each call: the default for file systems without open folders.
private final class NamedFolder: OpenFolder {
    private let files: any FileSystem
    private let path: String

    init(files: any FileSystem, path: String) {
        self.files = files
        self.path = path
    }

    func list(limit: Int) throws(FileFault) -> FolderListing { try files.list(path, fresh: true, limit: limit) }

    func open(_ name: String) throws(FileFault) -> any OpenFile { try files.open("\(path)/\(name)", .read) }

    func openFolder(_ name: String) throws(FileFault) -> any OpenFolder { try files.openFolder("\(path)/\(name)") }
}

/// An open regular file. Confined to one thread at a time; closed when deallocated.
package protocol OpenFile: AnyObject {
    /// The attributes at the time of opening.
    var status: FileStatus { get }

    /// Reads up to `count` bytes. A short read may happen anywhere in the file; an empty one only at its end.
    func read(at offset: UInt64, count: Int) throws(FileFault) -> [UInt8]

    /// Writes at least one of the bytes and returns the number written.
    func write(_ bytes: ArraySlice<UInt8>, at offset: UInt64) throws(FileFault) -> Int

    /// Makes contents and attributes durable (fsync). After a failure it is unknown what is on the disk: never called
    /// again for the same file.
    func sync() throws(FileFault)

    /// Makes contents durable, with the attributes that are needed to read them (fdatasync).
    func syncData() throws(FileFault)
}

/// The ways of opening a file.
package enum FileAccess: Sendable {
    case read
    /// Reading and writing an existing file.
    case update
    /// Reading and writing a file that this call creates, with mode 0600.
    case createNew
}

/// The attributes of a file or folder.
package struct FileStatus: Equatable, Sendable {
    package enum Kind: Sendable { case file, folder, symbolicLink, other }

    package var kind: Kind
    package var size: UInt64
    package var inode: UInt64
    /// The permission bits.
    package var mode: UInt32
    package var owner: UInt32
    package var isOwnedByUs: Bool
    /// Whether the file's group is one of this process's groups: then its group bits do not admit other users.
    package var groupIsOurs: Bool
    /// The number of names that the file has.
    package var links: UInt64

    package init(
        kind: Kind,
        size: UInt64,
        inode: UInt64,
        mode: UInt32,
        owner: UInt32,
        isOwnedByUs: Bool,
        groupIsOurs: Bool,
        links: UInt64
    ) {
        self.kind = kind
        self.size = size
        self.inode = inode
        self.mode = mode
        self.owner = owner
        self.isOwnedByUs = isOwnedByUs
        self.groupIsOurs = groupIsOurs
        self.links = links
    }

    /// Whether users outside this process's groups may read or write the file. The owner is not checked, because EFS
    /// and SMB impose one. Group bits count only for a foreign group, because a volume that is mounted for a group
    /// (fsGroup) turns 0700 into 2770.
    package var isOpenToOthers: Bool {
        mode & 0o007 != 0 || (mode & 0o070 != 0 && !groupIsOurs)
    }

    /// Whether mode or owner are accepted but worth a line in `store check`.
    package var isUnusual: Bool { mode & 0o070 != 0 || !isOwnedByUs }
}

/// The names in a folder, and the folder's attributes at the same time.
package struct FolderListing: Sendable {
    package var names: [String]
    package var status: FileStatus

    package init(names: [String], status: FileStatus) {
        self.names = names
        self.status = status
    }
}
