import Glibc
import Synchronization

/// A file system in the memory of this process, for a single replica without a volume and for tests. It behaves as
/// ``PosixFileSystem`` does on a local disk, and its contents are lost with the last reference to it.
///
/// One lock guards all files and folders. The files and names take up a limited amount of memory; beyond it the file
/// system is full (ENOSPC).
package final class MemoryFileSystem: FileSystem {
    /// The memory that all files and names may take up by default.
    package static let defaultCapacity = 256 << 20
    /// The memory that one name counts for, with the attributes of its file.
    package static let nameCost = 512

    package let root = "memory"
    fileprivate let lock = Mutex(())
    fileprivate let space: MemorySpace
    private let top: MemoryNode

    package init(capacity: Int = defaultCapacity) {
        space = MemorySpace(capacity: capacity)
        top = MemoryNode(isFolder: true, space)
    }

    // MARK: Files

    package func open(_ path: String, _ access: FileAccess) throws(FileFault) -> any OpenFile {
        try lock.withLock { _ throws(FileFault) in
            let node: MemoryNode
            if case .createNew = access {
                node = try add(path, .open) { MemoryNode(isFolder: false, space) }
            } else {
                node = try find(path, .open)
            }
            guard !node.isFolder else { throw fault(.open, path, EISDIR) }
            return MemoryFile(node, of: self, path, isWritable: access != .read)
        }
    }

    package func status(_ path: String) throws(FileFault) -> FileStatus {
        try lock.withLock { _ throws(FileFault) in try find(path, .stat).status }
    }

    package func link(_ path: String, to target: String) throws(FileFault) {
        try lock.withLock { _ throws(FileFault) in
            let node = try find(path, .link)
            guard !node.isFolder else { throw fault(.link, path, EPERM) }
            _ = try add(target, .link) { node }
        }
    }

    package func rename(_ path: String, to target: String) throws(FileFault) {
        try lock.withLock { _ throws(FileFault) in
            let (from, oldName) = try parent(of: path, .rename)
            let (to, newName) = try parent(of: target, .rename)
            guard let node = from.entries[oldName] else { throw fault(.rename, target, ENOENT) }
            guard !isBelow(to, node) else { throw fault(.rename, target, EINVAL) }
            if let replaced = to.entries[newName] {
                guard replaced !== node else { return }
                guard replaced.isFolder == node.isFolder else {
                    throw fault(.rename, target, replaced.isFolder ? EISDIR : ENOTDIR)
                }
                guard replaced.entries.isEmpty else { throw fault(.rename, target, ENOTEMPTY) }
                remove(newName, from: to)
            }
            from.entries[oldName] = nil
            to.entries[newName] = node
        }
    }

    package func unlink(_ path: String) throws(FileFault) {
        try lock.withLock { _ throws(FileFault) in
            let (folder, name) = try parent(of: path, .unlink)
            guard let node = folder.entries[name] else { throw fault(.unlink, path, ENOENT) }
            guard !node.isFolder else { throw fault(.unlink, path, EISDIR) }
            remove(name, from: folder)
        }
    }

    // MARK: Folders

    package func forceSync(_ folder: String) throws(FileFault) {
        try lock.withLock { _ throws(FileFault) in _ = try self.folder(folder, .forceSync) }
    }

    package func syncFolder(_ path: String) throws(FileFault) {
        try lock.withLock { _ throws(FileFault) in _ = try folder(path, .syncFolder) }
    }

    package func list(_ folder: String, fresh: Bool, limit: Int) throws(FileFault) -> FolderListing {
        try lock.withLock { _ throws(FileFault) in
            let node = try self.folder(folder, .list)
            guard node.entries.count <= limit else { throw fault(.list, folder, EFBIG) }
            return FolderListing(names: Array(node.entries.keys), status: node.status)
        }
    }

    package func makeFolder(_ path: String) throws(FileFault) {
        try lock.withLock { _ throws(FileFault) in _ = try add(path, .mkdir) { MemoryNode(isFolder: true, space) } }
    }

    package func removeFolder(_ path: String) throws(FileFault) {
        try lock.withLock { _ throws(FileFault) in
            let (folder, name) = try parent(of: path, .rmdir)
            guard let node = folder.entries[name] else { throw fault(.rmdir, path, ENOENT) }
            guard node.isFolder else { throw fault(.rmdir, path, ENOTDIR) }
            guard node.entries.isEmpty else { throw fault(.rmdir, path, ENOTEMPTY) }
            remove(name, from: folder)
        }
    }
}

// MARK: Names

extension MemoryFileSystem {
    fileprivate func fault(_ call: FileFault.Call, _ path: String, _ number: Int32) -> FileFault {
        FileFault(call, path.isEmpty ? root : "\(root)/\(path)", number)
    }

    // All others are called under the lock.

    private func find(_ path: String, _ call: FileFault.Call, above count: Int = 0) throws(FileFault) -> MemoryNode {
        var node = top
        for name in path.split(separator: "/").dropLast(count) {
            guard node.isFolder else { throw fault(call, path, ENOTDIR) }
            guard let next = node.entries[String(name)] else { throw fault(call, path, ENOENT) }
            node = next
        }
        return node
    }

    private func folder(
        _ path: String,
        _ call: FileFault.Call,
        above count: Int = 0
    ) throws(FileFault) -> MemoryNode {
        let node = try find(path, call, above: count)
        guard node.isFolder else { throw fault(call, path, ENOTDIR) }
        return node
    }

    private func parent(of path: String, _ call: FileFault.Call) throws(FileFault) -> (MemoryNode, name: String) {
        guard let name = path.split(separator: "/").last else { throw fault(call, path, ENOENT) }
        return (try folder(path, call, above: 1), String(name))
    }

    /// Gives a node a name that is not in use.
    private func add(_ path: String, _ call: FileFault.Call, _ node: () -> MemoryNode) throws(FileFault) -> MemoryNode {
        let (folder, name) = try parent(of: path, call)
        guard folder.entries[name] == nil else { throw fault(call, path, EEXIST) }
        guard space.reserve(Self.nameCost) else { throw fault(call, path, ENOSPC) }
        let node = node()
        node.links += 1
        folder.entries[name] = node
        return node
    }

    private func remove(_ name: String, from folder: MemoryNode) {
        folder.entries.removeValue(forKey: name)?.links -= 1
        space.release(Self.nameCost)
    }

    private func isBelow(_ folder: MemoryNode, _ node: MemoryNode) -> Bool {
        node === folder || node.entries.values.contains { $0.isFolder && isBelow(folder, $0) }
    }
}

/// The memory that the files and names of a file system take up.
private final class MemorySpace: Sendable {
    private let capacity: Int
    private let used = Atomic(0)

    init(capacity: Int) { self.capacity = capacity }

    /// Reserves memory, or returns `false` if there is not enough. Called under the lock.
    func reserve(_ count: Int) -> Bool {
        guard count <= capacity - used.load(ordering: .relaxed) else { return false }
        used.add(count, ordering: .relaxed)
        return true
    }

    func release(_ count: Int) { used.subtract(count, ordering: .relaxed) }
}

/// A file or a folder: exists until it has no name and is not open. The lock of its file system guards it.
private final class MemoryNode: @unchecked Sendable {
    private static let lastNumber = Atomic<UInt64>(0)

    let isFolder: Bool
    private let number = lastNumber.add(1, ordering: .relaxed).newValue
    private let space: MemorySpace
    var links: UInt64 = 0
    var entries: [String: MemoryNode] = [:]
    private(set) var bytes: [UInt8] = []

    init(isFolder: Bool, _ space: MemorySpace) {
        self.isFolder = isFolder
        self.space = space
    }

    deinit { space.release(bytes.count) }

    /// Writes bytes, after zeros up to the offset, or returns `false` if there is not enough space.
    func write(_ new: ArraySlice<UInt8>, at offset: Int) -> Bool {
        let end = offset.addingReportingOverflow(new.count)
        guard !end.overflow, space.reserve(max(0, end.partialValue - bytes.count)) else { return false }
        bytes += repeatElement(0, count: max(0, end.partialValue - bytes.count))
        bytes.replaceSubrange(offset..<end.partialValue, with: new)
        return true
    }

    var status: FileStatus {
        FileStatus(
            kind: isFolder ? .folder : .file,
            size: UInt64(bytes.count),
            inode: number,
            mode: isFolder ? 0o700 : 0o600,
            owner: geteuid(),
            isOwnedByUs: true,
            groupIsOurs: true,
            links: links
        )
    }
}

/// An open file of a ``MemoryFileSystem``.
private final class MemoryFile: OpenFile {
    let status: FileStatus
    private let node: MemoryNode
    private let files: MemoryFileSystem
    private let path: String
    private let isWritable: Bool

    init(_ node: MemoryNode, of files: MemoryFileSystem, _ path: String, isWritable: Bool) {
        status = node.status
        self.node = node
        self.files = files
        self.path = path
        self.isWritable = isWritable
    }

    func read(at offset: UInt64, count: Int) throws(FileFault) -> [UInt8] {
        files.lock.withLock { _ in
            guard let start = Int(exactly: offset), start < node.bytes.count else { return [] }
            return Array(node.bytes[start...].prefix(count))
        }
    }

    func write(_ bytes: ArraySlice<UInt8>, at offset: UInt64) throws(FileFault) -> Int {
        guard isWritable else { throw files.fault(.write, path, EBADF) }
        guard let start = Int(exactly: offset) else { throw files.fault(.write, path, EFBIG) }
        guard files.lock.withLock({ _ in node.write(bytes, at: start) }) else {
            throw files.fault(.write, path, ENOSPC)
        }
        return bytes.count
    }

    func sync() throws(FileFault) {}

    func syncData() throws(FileFault) {}
}
