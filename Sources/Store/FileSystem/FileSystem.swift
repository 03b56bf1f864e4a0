/// The file system calls that the store is made of, and no others.
///
/// Paths are relative to the root of the store, components are joined by "/", and no component may be a symbolic link.
/// Each call finds its way anew by path, so that a folder which was renamed away or mounted over is noticed. Every call
/// blocks, may block for ever, and belongs on a thread of the store.
///
/// Behind this protocol stands Linux (``PosixFileSystem``) or, in tests, a simulated network file system.
package protocol FileSystem: Sendable {
    /// The absolute path of the root, as people are told of it.
    var root: String { get }

    /// Opens a plain file. Anything else that has this name is a fault.
    func open(_ path: String, _ access: FileAccess) throws(FileFault) -> any OpenFile

    /// Facts of whatever has this name. A network file system may answer from a cache that is a minute old.
    func status(_ path: String) throws(FileFault) -> FileStatus

    /// Asks the server about a folder, past every cache: what the folder lists, and which names it does not hold, is
    /// no older than this call for whatever follows it (statx with AT_STATX_FORCE_SYNC).
    func forceSync(_ folder: String) throws(FileFault)

    /// The names in a folder, in no order, without "." and "..".
    ///
    /// - Parameters:
    ///   - fresh: asks the server first, as ``forceSync(_:)`` does; otherwise the answer may come from a cache.
    ///   - limit: more names than this are a fault (EFBIG): such a folder is not ours.
    func list(_ folder: String, fresh: Bool, limit: Int) throws(FileFault) -> FolderListing

    /// Opens a folder: for whoever reads a file in each of thousands of folders.
    func openFolder(_ path: String) throws(FileFault) -> any OpenFolder

    /// Gives a file a further name. Fails if that name is taken: of many callers exactly one succeeds.
    func link(_ path: String, to target: String) throws(FileFault)

    /// Renames a file (replacing what has the new name) or a folder (onto nothing, or an empty folder).
    func rename(_ path: String, to target: String) throws(FileFault)

    func unlink(_ path: String) throws(FileFault)

    /// Makes a folder that only its owner may use. The folder above has to exist.
    func makeFolder(_ path: String) throws(FileFault)

    /// Removes an empty folder.
    func removeFolder(_ path: String) throws(FileFault)

    /// Makes the names in a folder durable.
    func syncFolder(_ path: String) throws(FileFault)
}

/// An open folder, which need not be looked for again. Used by one thread at a time and closed when it is let go.
package protocol OpenFolder: AnyObject {
    /// The names in it, past every cache, as ``FileSystem/list(_:fresh:limit:)`` gives them.
    func list(limit: Int) throws(FileFault) -> FolderListing

    /// Opens a plain file in it for reading.
    func open(_ name: String) throws(FileFault) -> any OpenFile

    func openFolder(_ name: String) throws(FileFault) -> any OpenFolder
}

extension FileSystem {
    package func openFolder(_ path: String) throws(FileFault) -> any OpenFolder { NamedFolder(files: self, path: path) }
}

/// A folder that is looked for with each call.
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

/// An open plain file, used by one thread at a time and closed when it is let go.
package protocol OpenFile: AnyObject {
    /// The facts as of the opening, whatever has the name since.
    var status: FileStatus { get }

    /// Up to `count` bytes; fewer than asked for happen before the end of the file too, none only at its end.
    func read(at offset: UInt64, count: Int) throws(FileFault) -> [UInt8]

    /// Writes as many of the bytes as the system takes; at least one. Returns how many.
    func write(_ bytes: ArraySlice<UInt8>, at offset: UInt64) throws(FileFault) -> Int

    /// Makes contents and attributes durable. After a failure nobody knows what is on the disk: never called again for
    /// the same file.
    func sync() throws(FileFault)

    /// Makes contents durable, and of the attributes what is needed to read them.
    func syncData() throws(FileFault)
}

package enum FileAccess: Sendable {
    case read
    /// Reading and writing a file that exists.
    case update
    /// Reading and writing a file that is made by this call; mode 0600.
    case createNew
}

package struct FileStatus: Equatable, Sendable {
    package enum Kind: Sendable { case file, folder, symbolicLink, other }

    package var kind: Kind
    package var size: UInt64
    package var inode: UInt64
    /// The permission bits.
    package var mode: UInt32
    package var owner: UInt32
    package var isOwnedByUs: Bool
    /// True if the file's group is one of this process: then its group bits are not foreign.
    package var groupIsOurs: Bool
    /// How many names the file has.
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

    /// Users outside our own group may read or write it. The owner is not judged: EFS and SMB impose one. Group bits
    /// count only for a foreign group: a volume that is mounted for a group (fsGroup) turns 0700 into 2770.
    package var isOpenToOthers: Bool {
        mode & 0o007 != 0 || (mode & 0o070 != 0 && !groupIsOurs)
    }

    /// Accepted, but worth a line in `store check`.
    package var isUnusual: Bool { mode & 0o070 != 0 || !isOwnedByUs }
}

package struct FolderListing: Sendable {
    package var names: [String]
    package var status: FileStatus

    package init(names: [String], status: FileStatus) {
        self.names = names
        self.status = status
    }
}
