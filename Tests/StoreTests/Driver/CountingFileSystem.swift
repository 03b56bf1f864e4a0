import Store
import Synchronization

/// A file system that counts its calls by call and path.
struct CountingFileSystem: FileSystem {
    final class Counts: Sendable {
        private let counts = Mutex<[String: Int]>([:])

        func count(_ call: String, _ path: String) { counts.withLock { $0["\(call) \(path)", default: 0] += 1 } }

        func reset() { counts.withLock { $0 = [:] } }

        var all: [String: Int] { counts.withLock { $0 } }
    }

    let files: PosixFileSystem
    let counts = Counts()

    var root: String { files.root }

    func open(_ path: String, _ access: FileAccess) throws(FileFault) -> any OpenFile {
        counts.count("open", path)
        return try files.open(path, access)
    }

    func status(_ path: String) throws(FileFault) -> FileStatus {
        counts.count("status", path)
        return try files.status(path)
    }

    func forceSync(_ folder: String) throws(FileFault) {
        counts.count("sync", folder)
        try files.forceSync(folder)
    }

    func list(_ folder: String, fresh: Bool, limit: Int) throws(FileFault) -> FolderListing {
        counts.count("list", folder)
        return try files.list(folder, fresh: fresh, limit: limit)
    }

    func link(_ path: String, to target: String) throws(FileFault) {
        counts.count("link", target)
        try files.link(path, to: target)
    }

    func rename(_ path: String, to target: String) throws(FileFault) {
        counts.count("rename", target)
        try files.rename(path, to: target)
    }

    func unlink(_ path: String) throws(FileFault) {
        counts.count("unlink", path)
        try files.unlink(path)
    }

    func makeFolder(_ path: String) throws(FileFault) {
        counts.count("make", path)
        try files.makeFolder(path)
    }

    func removeFolder(_ path: String) throws(FileFault) {
        counts.count("remove", path)
        try files.removeFolder(path)
    }

    func syncFolder(_ path: String) throws(FileFault) {
        counts.count("syncFolder", path)
        try files.syncFolder(path)
    }
}
