import Foundation
import NIOCore
import Store
import Synchronization
import TestSupport
import Testing

@Suite("Removed keys")
struct RemovedKeysTests {
    private let scratch = ScratchFolder()
    private let key: StoreKey = "acme/challenges/a"
    private let start = NIODeadline.now()

    @Test("The folder of a removed key is deleted after ten minutes, unless the key was created again")
    func removed() throws {
        let volume = try scratch.volume()
        let collector = GarbageCollector(volume: volume, removedUnder: ["acme/challenges"])
        #expect(try collector.sweep(now: start) == 0)
        try volume.write(key, .create(bytes("one")))
        try volume.write(key, .remove(nil))
        try volume.write("acme/challenges/b", .create(bytes("stays")))
        _ = try collector.sweep(now: start)
        _ = try collector.sweep(now: start + .minutes(9))
        #expect(try volume.write(key, .create(bytes("two"))) == 3)
        _ = try collector.sweep(now: start + .minutes(11))
        #expect(try volume.read(key).bytes == bytes("two"))
        try volume.write(key, .remove(nil))
        _ = try collector.sweep(now: start + .minutes(12))
        _ = try collector.sweep(now: start + .minutes(22))
        _ = try collector.sweep(now: start + .minutes(33))
        _ = try collector.sweep(now: start + .minutes(44))
        #expect(scratch.names("v2/acme/challenges").filter { !$0.hasPrefix(".") } == ["b"])
        #expect(scratch.names("v2/tombs").isEmpty)
    }

    @Test("A key that is created again while its folder is deleted is restored with the version its writer got")
    func madeAgain() throws {
        _ = try scratch.volume()
        let writer = Volume(files: try PosixFileSystem(path: scratch.file("v2"), creating: false))
        let key = key
        let made = Mutex<UInt64?>(nil)
        let files = InterruptedFileSystem(files: try PosixFileSystem(path: scratch.file("v2"), creating: false)) {
            // Between the last check and the rename.
            let version = try? writer.write(key, .create(bytes("again")))
            made.withLock { $0 = version }
        }
        let collector = GarbageCollector(volume: Volume(files: files), removedUnder: ["acme/challenges"])
        try writer.write(key, .create(bytes("one")))
        try writer.write(key, .remove(nil))
        _ = try collector.sweep(now: start)
        _ = try collector.sweep(now: start + .minutes(11))
        #expect(made.withLock { $0 } == 3)
        #expect(try writer.read(key) == StoredValue(bytes: bytes("again"), version: 3))
        #expect(scratch.names("v2/tombs").isEmpty)
    }

    @Test("A key that cannot be read does not stop the sweep of the others")
    func unreadable() throws {
        let volume = try scratch.volume()
        let collector = GarbageCollector(volume: volume, removedUnder: ["acme/challenges"])
        try volume.write("acme/challenges/0", .create(bytes("open")))
        let path = scratch.file("v2/acme/challenges/0/1.json")
        try FileManager.default.setAttributes([.posixPermissions: 0o666], ofItemAtPath: path)
        try volume.write(key, .create(bytes("one")))
        try volume.write(key, .remove(nil))
        for minutes in [0, 11, 22] { _ = try collector.sweep(now: start + .minutes(Int64(minutes))) }
        #expect(scratch.names("v2/acme/challenges").filter { !$0.hasPrefix(".") } == ["0"])
        #expect(FileManager.default.fileExists(atPath: path))
    }
}

/// Runs a closure before the folder of a removed key is moved to `tombs/`.
private struct InterruptedFileSystem: FileSystem {
    let files: PosixFileSystem
    let before: @Sendable () -> Void

    var root: String { files.root }

    func rename(_ path: String, to target: String) throws(FileFault) {
        if target.hasPrefix("tombs/removed-") { before() }
        try files.rename(path, to: target)
    }

    func open(_ path: String, _ access: FileAccess) throws(FileFault) -> any OpenFile {
        try files.open(path, access)
    }
    func status(_ path: String) throws(FileFault) -> FileStatus { try files.status(path) }
    func forceSync(_ folder: String) throws(FileFault) { try files.forceSync(folder) }
    func list(_ folder: String, fresh: Bool, limit: Int) throws(FileFault) -> FolderListing {
        try files.list(folder, fresh: fresh, limit: limit)
    }
    func link(_ path: String, to target: String) throws(FileFault) { try files.link(path, to: target) }
    func unlink(_ path: String) throws(FileFault) { try files.unlink(path) }
    func makeFolder(_ path: String) throws(FileFault) { try files.makeFolder(path) }
    func removeFolder(_ path: String) throws(FileFault) { try files.removeFolder(path) }
    func syncFolder(_ path: String) throws(FileFault) { try files.syncFolder(path) }
}
