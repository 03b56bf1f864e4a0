import ACME
import Certificates
import Dispatch
import Foundation
import NIOCore
import Store
import Synchronization
import TestSupport

extension ScratchFolder {
    /// A volume on this folder, with the folders that every store has; each call is another process's.
    func volume() throws -> Volume {
        let volume = Volume(files: try PosixFileSystem(path: file("v1"), creating: true))
        try volume.prepare()
        return volume
    }

    func store() throws -> VolumeStore { VolumeStore(volume: try volume()) }

    /// The same behind a file system that tells what is done, looked at ten times a second.
    func observedStore(looking: String = "", quiet: [String] = []) throws -> (
        store: VolumeStore, files: ObservedFileSystem
    ) {
        try volume().prepare()
        let posix = try PosixFileSystem(path: file("v1"), creating: false)
        let files = ObservedFileSystem(posix, looking: looking, quiet: quiet)
        var options = VolumeStore.Options()
        options.watchInterval = .milliseconds(100)
        return (VolumeStore(volume: Volume(files: files), options: options), files)
    }
}

/// Publishes a certificate the way `hopgate cert import` does.
@discardableResult
func publish(_ test: TestCertificate, as key: StoreKey, in store: any Store) async throws -> Generation {
    try await CertificateSet.publish(try test.loaded(), as: key, origin: "import", in: store)
}

func names(_ test: TestCertificate) -> [CertificateName] { test.names.compactMap { CertificateName($0) } }

/// A file system that takes no writes once it is told so, as a volume that was remounted read-only.
final class ReadOnlyFileSystem: FileSystem {
    private let files: PosixFileSystem

    init(_ files: PosixFileSystem) { self.files = files }

    var root: String { files.root }

    func open(_ path: String, _ access: FileAccess) throws(FileFault) -> any OpenFile {
        guard case .read = access else { throw FileFault(.open, path, EROFS) }
        return try files.open(path, access)
    }

    func status(_ path: String) throws(FileFault) -> FileStatus { try files.status(path) }
    func forceSync(_ folder: String) throws(FileFault) { try files.forceSync(folder) }
    func list(_ folder: String, fresh: Bool, limit: Int) throws(FileFault) -> FolderListing {
        try files.list(folder, fresh: fresh, limit: limit)
    }
    func link(_ path: String, to target: String) throws(FileFault) { throw FileFault(.link, path, EROFS) }
    func rename(_ path: String, to target: String) throws(FileFault) { throw FileFault(.rename, path, EROFS) }
    func unlink(_ path: String) throws(FileFault) { throw FileFault(.unlink, path, EROFS) }
    func makeFolder(_ path: String) throws(FileFault) { throw FileFault(.mkdir, path, EROFS) }
    func removeFolder(_ path: String) throws(FileFault) { throw FileFault(.rmdir, path, EROFS) }
    func syncFolder(_ path: String) throws(FileFault) { throw FileFault(.fsync, path, EROFS) }
}

/// A file system that tells of every call before it is made, and makes those fail that it is told to.
final class ObservedFileSystem: FileSystem {
    private struct State {
        var failing: String?
        var failures = 0
        var looks = 0
    }

    private let files: PosixFileSystem
    private let quiet: [String]
    private let looking: String
    private let state = Mutex(State())

    /// - Parameters:
    ///   - looking: the folder of hints that every look at a prefix lists.
    ///   - quiet: paths whose status is no longer requested.
    init(_ files: PosixFileSystem, looking: String = "", quiet: [String] = []) {
        self.files = files
        self.looking = looking
        self.quiet = quiet
    }

    /// Makes calls below this path fail with EIO; `nil` ends the failures.
    func fail(_ path: String?) { state.withLock { ($0.failing, $0.failures) = (path, 0) } }

    var failures: Int { state.withLock { $0.failures } }

    /// The number of listings of the prefix since one of the quiet paths was last requested.
    var looksInQuiet: Int { state.withLock { $0.looks } }

    private func observe(_ call: FileFault.Call, _ path: String) throws(FileFault) {
        let isFailing = state.withLock { state in
            if quiet.contains(where: { path.hasPrefix($0) }) { state.looks = 0 }
            if path == looking, call == .list { state.looks += 1 }
            let isFailing = state.failing.map { path.hasPrefix($0) } ?? false
            if isFailing { state.failures += 1 }
            return isFailing
        }
        if isFailing { throw FileFault(call, path, EIO) }
    }

    var root: String { files.root }

    func open(_ path: String, _ access: FileAccess) throws(FileFault) -> any OpenFile {
        try observe(.open, path)
        return try files.open(path, access)
    }
    func status(_ path: String) throws(FileFault) -> FileStatus {
        try observe(.stat, path)
        return try files.status(path)
    }
    func forceSync(_ folder: String) throws(FileFault) {
        try observe(.forceSync, folder)
        try files.forceSync(folder)
    }
    func list(_ folder: String, fresh: Bool, limit: Int) throws(FileFault) -> FolderListing {
        try observe(.list, folder)
        return try files.list(folder, fresh: fresh, limit: limit)
    }
    func link(_ path: String, to target: String) throws(FileFault) { try files.link(path, to: target) }
    func rename(_ path: String, to target: String) throws(FileFault) { try files.rename(path, to: target) }
    func unlink(_ path: String) throws(FileFault) { try files.unlink(path) }
    func makeFolder(_ path: String) throws(FileFault) { try files.makeFolder(path) }
    func removeFolder(_ path: String) throws(FileFault) { try files.removeFolder(path) }
    func syncFolder(_ path: String) throws(FileFault) { try files.syncFolder(path) }
}

/// Repeats one piece of work on a thread of its own, so that it occupies no thread of the task pool.
final class Busy: Sendable {
    private let isStopped = Atomic(false)
    private let rounds = Atomic(0)
    private let ended = DispatchSemaphore(value: 0)

    init(_ body: @escaping @Sendable () -> Void) {
        Thread.detachNewThread { [self] in
            while !isStopped.load(ordering: .relaxed) {
                body()
                rounds.add(1, ordering: .relaxed)
            }
            ended.signal()
        }
    }

    /// Waits for the round that is under way. Returns how many there were.
    func stop() -> Int {
        isStopped.store(true, ordering: .relaxed)
        ended.wait()
        return rounds.load(ordering: .relaxed)
    }
}
