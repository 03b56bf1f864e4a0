import Foundation
import Store
import TestSupport

/// A file system whose calls hang on demand, as on a mount whose server is unreachable, or that has no space for new
/// files.
struct HangingFileSystem: FileSystem {
    /// The point at which hanging calls wait.
    final class Gate: @unchecked Sendable {
        private let condition = NSCondition()
        private var isClosed = false
        private var isFull = false
        /// The only path whose opening or listing hangs, or `nil` if every call does.
        private var path: String?
        private var waiting = 0

        func hang(_ isHanging: Bool, at path: String? = nil) {
            condition.lock()
            isClosed = isHanging
            self.path = path
            condition.broadcast()
            condition.unlock()
        }

        func fill(_ isFull: Bool) {
            condition.withLock { self.isFull = isFull }
        }

        /// The number of calls that hang now.
        var waitingCount: Int { condition.withLock { waiting } }

        func pass(_ path: String? = nil) {
            condition.lock()
            waiting += 1
            while isClosed, self.path == nil || self.path == path { condition.wait() }
            waiting -= 1
            condition.unlock()
        }

        func passWithNewFile(_ path: String) throws(FileFault) {
            pass(path)
            guard condition.withLock({ !isFull }) else { throw FileFault(.open, path, ENOSPC) }
        }
    }

    let files: PosixFileSystem
    let gate = Gate()

    var root: String { files.root }

    func open(_ path: String, _ access: FileAccess) throws(FileFault) -> any OpenFile {
        if access == .createNew { try gate.passWithNewFile(path) } else { gate.pass(path) }
        return try files.open(path, access)
    }

    func status(_ path: String) throws(FileFault) -> FileStatus {
        gate.pass()
        return try files.status(path)
    }

    func forceSync(_ folder: String) throws(FileFault) {
        gate.pass(folder)
        try files.forceSync(folder)
    }

    func list(_ folder: String, fresh: Bool, limit: Int) throws(FileFault) -> FolderListing {
        gate.pass(folder)
        return try files.list(folder, fresh: fresh, limit: limit)
    }

    func link(_ path: String, to target: String) throws(FileFault) {
        gate.pass()
        try files.link(path, to: target)
    }

    func rename(_ path: String, to target: String) throws(FileFault) {
        gate.pass()
        try files.rename(path, to: target)
    }

    func unlink(_ path: String) throws(FileFault) {
        gate.pass()
        try files.unlink(path)
    }

    func makeFolder(_ path: String) throws(FileFault) {
        gate.pass()
        try files.makeFolder(path)
    }

    func removeFolder(_ path: String) throws(FileFault) {
        gate.pass()
        try files.removeFolder(path)
    }

    func syncFolder(_ path: String) throws(FileFault) {
        gate.pass()
        try files.syncFolder(path)
    }
}
