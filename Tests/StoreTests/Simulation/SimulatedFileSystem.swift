import Foundation
import Glibc
import NIOCore
import Store
import TestSupport

/// One client of a ``SimulatedVolume``: a replica's view of it, with caches and with writes that have not reached the
/// server. The client may die at any call.
final class SimulatedFileSystem: FileSystem, @unchecked Sendable {
    /// The error number of every call after the process has died. No code of the store reacts to it.
    static let dead: Int32 = 4_000

    private struct Snapshot {
        var entries: [String: UInt64]
        var expires: UInt64
    }

    struct Dirty {
        var offset: Int
        var bytes: [UInt8]
    }

    let volume: SimulatedVolume
    let root = "/simulated"
    /// Called at the start of every call, to let time pass.
    private let step: @Sendable () -> Void
    private var folders: [UInt64: Snapshot] = [:]
    var dirty: [UInt64: [Dirty]] = [:]
    fileprivate(set) var isDead = false

    init(volume: SimulatedVolume, step: @escaping @Sendable () -> Void = {}) {
        self.volume = volume
        self.step = step
    }

    /// Ends the process. A part of the writes that were not synced reaches the server, the last of them possibly
    /// incomplete.
    func die() {
        volume.lock.withLock {
            isDead = true
            for (number, writes) in dirty {
                var kept = writes.prefix(Int(volume.random.next() % UInt64(writes.count + 1)))
                if var last = kept.popLast() {
                    last.bytes = Array(last.bytes.prefix(Int(volume.random.next() % UInt64(last.bytes.count + 1))))
                    kept.append(last)
                }
                flush(Array(kept), to: number)
            }
            dirty = [:]
            folders = [:]
        }
    }

    // MARK: FileSystem

    func open(_ path: String, _ access: FileAccess) throws(FileFault) -> any OpenFile {
        try call(.open, path, changes: access == .createNew) { () throws(FileFault) in
            let (folder, name) = try parent(path, .open)
            if access == .createNew {
                guard folder.entries[name] == nil else { throw FileFault(.open, path, EEXIST) }
                guard !volume.isFull else { throw FileFault(.open, path, ENOSPC) }
                let node = volume.make(isFolder: false)
                set(folder, name, node.number)
                return SimulatedFile(self, node, path)
            }
            let node = try find(path, .open)
            guard !node.isFolder else { throw FileFault(.open, path, EISDIR) }
            if access == .update, volume.isReadOnly { throw FileFault(.open, path, EROFS) }
            return SimulatedFile(self, node, path)
        }
    }

    func status(_ path: String) throws(FileFault) -> FileStatus {
        try call(.stat, path) { () throws(FileFault) in status(of: try find(path, .stat)) }
    }

    func forceSync(_ folder: String) throws(FileFault) {
        try call(.forceSync, folder) { () throws(FileFault) in
            let node = try self.folder(folder, .forceSync)
            folders[node.number] = nil
            _ = entries(of: node)
        }
    }

    func list(_ folder: String, fresh: Bool, limit: Int) throws(FileFault) -> FolderListing {
        if fresh { try forceSync(folder) }
        return try call(.list, folder) { () throws(FileFault) in
            let node = try self.folder(folder, .list)
            let names = entries(of: node).keys
            guard names.count <= limit else { throw FileFault(.list, folder, EFBIG) }
            return FolderListing(names: names.sorted(), status: status(of: node))
        }
    }

    func link(_ path: String, to target: String) throws(FileFault) {
        try call(.link, target, changes: true, repeated: EEXIST) { () throws(FileFault) in
            let node = try find(path, .link)
            let (folder, name) = try parent(target, .link)
            guard folder.entries[name] == nil else { throw FileFault(.link, target, EEXIST) }
            set(folder, name, node.number)
        }
    }

    func rename(_ path: String, to target: String) throws(FileFault) {
        try call(.rename, target, changes: true, repeated: ENOENT) { () throws(FileFault) in
            let (from, oldName) = try parent(path, .rename)
            let (to, newName) = try parent(target, .rename)
            guard let number = from.entries[oldName], let node = volume.node(number) else {
                throw FileFault(.rename, target, ENOENT)
            }
            if let replaced = to.entries[newName].flatMap({ volume.node($0) }) {
                guard replaced.isFolder == node.isFolder else {
                    throw FileFault(.rename, target, replaced.isFolder ? EISDIR : ENOTDIR)
                }
                guard replaced.entries.isEmpty else { throw FileFault(.rename, target, ENOTEMPTY) }
                if replaced === node { return }
            }
            set(from, oldName, nil)
            set(to, newName, number)
        }
    }

    func unlink(_ path: String) throws(FileFault) {
        try call(.unlink, path, changes: true, repeated: ENOENT) { () throws(FileFault) in
            let (folder, name) = try parent(path, .unlink)
            guard let node = folder.entries[name].flatMap({ volume.node($0) }) else {
                throw FileFault(.unlink, path, ENOENT)
            }
            guard !node.isFolder else { throw FileFault(.unlink, path, EISDIR) }
            set(folder, name, nil)
        }
    }

    func makeFolder(_ path: String) throws(FileFault) {
        try call(.mkdir, path, changes: true, repeated: EEXIST) { () throws(FileFault) in
            let (folder, name) = try parent(path, .mkdir)
            guard folder.entries[name] == nil else { throw FileFault(.mkdir, path, EEXIST) }
            guard !volume.isFull else { throw FileFault(.mkdir, path, ENOSPC) }
            set(folder, name, volume.make(isFolder: true).number)
        }
    }

    func removeFolder(_ path: String) throws(FileFault) {
        try call(.rmdir, path, changes: true, repeated: ENOENT) { () throws(FileFault) in
            let (folder, name) = try parent(path, .rmdir)
            guard let node = folder.entries[name].flatMap({ volume.node($0) }) else {
                throw FileFault(.rmdir, path, ENOENT)
            }
            guard node.isFolder, node.entries.isEmpty else { throw FileFault(.rmdir, path, ENOTEMPTY) }
            set(folder, name, nil)
        }
    }

    func syncFolder(_ path: String) throws(FileFault) {
        try call(.syncFolder, path) { () throws(FileFault) in
            let folder = try self.folder(path, .syncFolder)
            if volume.random.chance(volume.faults.failedSync) { throw FileFault(.syncFolder, path, EIO) }
            volume.sync(folder)
        }
    }

    // MARK: Calls

    /// Performs one call with all the faults that may occur.
    ///
    /// - Parameter repeated: The error of the server when it executes the same request a second time.
    func call<Result>(
        _ call: FileFault.Call,
        _ path: String,
        changes: Bool = false,
        repeated: Int32? = nil,
        _ body: () throws(FileFault) -> Result
    ) throws(FileFault) -> Result {
        step()
        volume.lock.lock()
        defer { volume.lock.unlock() }
        guard !isDead else { throw FileFault(call, path, Self.dead) }
        guard !volume.isUnmounted else { throw FileFault(call, path, ENOENT) }
        if changes, volume.isReadOnly { throw FileFault(call, path, EROFS) }
        let faults = volume.faults
        if volume.random.chance(faults.failure) {
            throw FileFault(call, path, [EIO, ESTALE, ETIMEDOUT][Int(volume.random.next() % 3)])
        }
        let result = try body()
        if let repeated, volume.random.chance(faults.lostReply) { throw FileFault(call, path, repeated) }
        if changes, volume.random.chance(faults.failureAfter) { throw FileFault(call, path, EIO) }
        return result
    }

    func status(of node: SimulatedVolume.Node) -> FileStatus {
        FileStatus(
            kind: node.isFolder ? .folder : .file,
            size: UInt64(contents(of: node).count),
            inode: node.number,
            mode: node.mode,
            owner: 0,
            isOwnedByUs: true,
            groupIsOurs: true,
            links: UInt64(volume.links(of: node.number))
        )
    }

    /// Returns the bytes that this client reads: those of the server, overlaid with its own writes.
    func contents(of node: SimulatedVolume.Node) -> [UInt8] {
        guard let writes = dirty[node.number] else { return node.data }
        var data = node.data
        for write in writes { Self.apply(write, to: &data) }
        return data
    }

    func flush(_ writes: [Dirty], to number: UInt64) {
        guard let node = volume.node(number) else { return }
        for write in writes { Self.apply(write, to: &node.data) }
    }

    private static func apply(_ write: Dirty, to data: inout [UInt8]) {
        let end = write.offset + write.bytes.count
        if data.count < end { data += [UInt8](repeating: 0, count: end - data.count) }
        data.replaceSubrange(write.offset..<end, with: write.bytes)
    }
}

// MARK: Names

extension SimulatedFileSystem {
    /// Returns the names in a folder from the cache, or from the server if they are not cached or have expired.
    private func entries(of node: SimulatedVolume.Node) -> [String: UInt64] {
        let now = volume.now()
        if let snapshot = folders[node.number], snapshot.expires > now { return snapshot.entries }
        if volume.random.chance(volume.faults.cached) {
            let seconds = Double(volume.random.next() % 1_000) / 1_000 * volume.faults.cacheSeconds
            folders[node.number] = Snapshot(entries: node.entries, expires: now + UInt64(seconds * 1e9))
        } else {
            folders[node.number] = nil
        }
        return node.entries
    }

    private func set(_ folder: SimulatedVolume.Node, _ name: String, _ number: UInt64?) {
        volume.set(folder, name, number)
        folders[folder.number]?.entries[name] = number
    }

    private func find(_ path: String, _ call: FileFault.Call) throws(FileFault) -> SimulatedVolume.Node {
        var number = SimulatedVolume.root
        for name in path.split(separator: "/") {
            guard let node = volume.node(number), node.isFolder else { throw FileFault(call, path, ENOTDIR) }
            guard let next = entries(of: node)[String(name)] else { throw FileFault(call, path, ENOENT) }
            number = next
        }
        guard let node = volume.node(number) else { throw FileFault(call, path, ESTALE) }
        // The cached name of a node that was deleted meanwhile.
        if number != SimulatedVolume.root, volume.links(of: number) == 0 { throw FileFault(call, path, ESTALE) }
        return node
    }

    private func folder(_ path: String, _ call: FileFault.Call) throws(FileFault) -> SimulatedVolume.Node {
        let node = try find(path, call)
        guard node.isFolder else { throw FileFault(call, path, ENOTDIR) }
        return node
    }

    private func parent(
        _ path: String,
        _ call: FileFault.Call
    ) throws(FileFault) -> (SimulatedVolume.Node, String) {
        guard let slash = path.lastIndex(of: "/") else { return (try folder("", call), path) }
        return (try folder(String(path[..<slash]), call), String(path[path.index(after: slash)...]))
    }
}

/// An open file of a simulated client. Reads ask the server, as a network file system does after every open.
final class SimulatedFile: OpenFile {
    private let system: SimulatedFileSystem
    private let node: SimulatedVolume.Node
    private let path: String
    let status: FileStatus

    init(_ system: SimulatedFileSystem, _ node: SimulatedVolume.Node, _ path: String) {
        status = system.status(of: node)
        self.system = system
        self.node = node
        self.path = path
    }

    /// Closing the file sends the writes to the server; no caller learns whether that succeeds.
    deinit {
        let volume = system.volume
        volume.lock.withLock {
            if !system.isDead, let writes = system.dirty.removeValue(forKey: node.number) {
                system.flush(writes, to: node.number)
            }
        }
    }

    func read(at offset: UInt64, count: Int) throws(FileFault) -> [UInt8] {
        try system.call(.read, path) { () throws(FileFault) in
            guard system.volume.links(of: node.number) > 0 else { throw FileFault(.read, path, ESTALE) }
            let data = system.contents(of: node)
            guard offset < UInt64(data.count) else { return [] }
            var wanted = min(count, data.count - Int(offset))
            if wanted > 1, system.volume.random.chance(system.volume.faults.shortTransfer) {
                wanted = 1 + Int(system.volume.random.next() % UInt64(wanted))
            }
            return Array(data[Int(offset)..<Int(offset) + wanted])
        }
    }

    func write(_ bytes: ArraySlice<UInt8>, at offset: UInt64) throws(FileFault) -> Int {
        try system.call(.write, path, changes: true) { () throws(FileFault) in
            let volume = system.volume
            let end = Int(offset) + bytes.count
            // Overwriting existing bytes needs no space.
            if volume.isFull, end > system.contents(of: node).count { throw FileFault(.write, path, ENOSPC) }
            var count = bytes.count
            if count > 1, volume.random.chance(volume.faults.shortTransfer) {
                count = 1 + Int(volume.random.next() % UInt64(count))
            }
            let write = SimulatedFileSystem.Dirty(offset: Int(offset), bytes: Array(bytes.prefix(count)))
            system.dirty[node.number, default: []].append(write)
            // The client may write back at any time.
            if volume.random.chance(0.2), let writes = system.dirty.removeValue(forKey: node.number) {
                system.flush(writes, to: node.number)
            }
            return count
        }
    }

    func sync() throws(FileFault) { try makeDurable(.fsync) }

    func syncData() throws(FileFault) { try makeDurable(.fdatasync) }

    private func makeDurable(_ call: FileFault.Call) throws(FileFault) {
        try system.call(call, path) { () throws(FileFault) in
            let volume = system.volume
            let writes = system.dirty.removeValue(forKey: node.number) ?? []
            if volume.random.chance(volume.faults.failedSync) {
                // A part arrives, the rest is dropped, and a second call would succeed without it.
                system.flush(
                    Array(writes.prefix(Int(volume.random.next() % UInt64(writes.count + 1)))),
                    to: node.number
                )
                throw FileFault(call, path, EIO)
            }
            system.flush(writes, to: node.number)
            node.durableData = node.data
        }
    }
}
