import Certificates
import Dispatch
import Foundation
import Store
import Synchronization

extension Scratch {
    /// A volume on this folder, with the folders that every store has; each call is another process's.
    func volume() throws -> Volume {
        let volume = Volume(files: try PosixFileSystem(path: file("v1"), creating: true))
        try volume.prepare()
        return volume
    }

    func store() throws -> VolumeStore { VolumeStore(volume: try volume()) }
}

/// As `hopgate cert import` does it.
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

/// Does the same again and again on a thread of its own: the threads of tasks are few, and others need them.
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
