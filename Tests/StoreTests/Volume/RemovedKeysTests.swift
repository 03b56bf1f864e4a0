import Foundation
import Glibc
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

    @Test("The folder of a removed key is deleted after an hour, unless the key was created again")
    func removed() throws {
        let volume = try scratch.volume()
        let key: StoreKey = "acme/orders/a"
        let collector = GarbageCollector(volume: volume)
        #expect(try collector.sweep(now: start) == 0)
        try volume.write(key, .create(bytes("one")))
        try volume.write(key, .remove(nil))
        try volume.write("acme/orders/b", .create(bytes("stays")))
        _ = try collector.sweep(now: start)
        _ = try collector.sweep(now: start + .minutes(59))
        #expect(try volume.write(key, .create(bytes("two"))) == 3)
        _ = try collector.sweep(now: start + .minutes(61))
        #expect(try volume.read(key).bytes == bytes("two"))
        try volume.write(key, .remove(nil))
        for minutes in [62, 123, 134, 145] { _ = try collector.sweep(now: start + .minutes(Int64(minutes))) }
        #expect(scratch.names("v2/acme/orders").filter { !$0.hasPrefix(".") } == ["b"])
        #expect(scratch.names("v2/tombs").isEmpty)
    }

    @Test("The folder of a removed key stays until all members have acted on the removal")
    func unsettled() throws {
        let volume = try scratch.volume()
        let collector = GarbageCollector(volume: volume)
        try volume.write("agents/a", .create(bytes("one")))
        try volume.write("agents/a", .remove(nil))
        for settled in [nil, start] {
            for minutes in [0, 61, 72] as [Int64] {
                _ = try collector.sweep(now: start + .minutes(minutes), settled: settled)
            }
            #expect(collector.isWaiting && scratch.names("v2/agents").contains("a"))
        }
        _ = try collector.sweep(now: start + .minutes(73), settled: start + .minutes(72))
        #expect(!scratch.names("v2/agents").contains("a"))
        _ = try collector.sweep(now: start + .minutes(74))
        #expect(!collector.isWaiting)
    }

    @Test("The folder of a removed key with a random name is deleted by the next round")
    func disposable() throws {
        let volume = try scratch.volume()
        let collector = GarbageCollector(volume: volume, disposable: ["acme/challenges"])
        try volume.write(key, .create(bytes("one")))
        _ = try collector.sweep(now: start)
        #expect(try volume.read(key).bytes == bytes("one"))
        try volume.write(key, .remove(nil))
        _ = try collector.sweep(now: start)
        #expect(scratch.names("v2/acme/challenges").filter { !$0.hasPrefix(".") } == [])
    }

    @Test(
        "Nothing of a removed value is left on the volume, even if the process ends before it deletes the old versions",
        arguments: [
            "agents/a", "certs/a", "acme/accounts/a", "acme/names/a", "acme/orders/a", "acme/challenges/a",
        ] as [StoreKey]
    )
    func secrets(_ key: StoreKey) throws {
        let secret = "-----BEGIN PRIVATE KEY-----"
        func remains() -> [String] {
            let all = FileManager.default.enumerator(atPath: scratch.path)?.compactMap { $0 as? String } ?? []
            return all.filter { String(decoding: scratch.read($0), as: UTF8.self).contains(secret) }
        }
        for isInterrupted in [false, true] {
            _ = try scratch.volume()
            let posix = try PosixFileSystem(path: scratch.file("v2"), creating: false)
            let volume = Volume(files: InterruptedFileSystem(files: posix, unlinks: !isInterrupted))
            try volume.write(key, .create(bytes(secret)))
            let version = try volume.read(key).version
            try volume.write(key, .replace(version, bytes("more \(secret)")))
            #expect(!remains().isEmpty)
            try volume.write(key, .remove(nil))
            #expect(remains().isEmpty == !isInterrupted)
            // What the process left is deleted by another.
            let collector = GarbageCollector(volume: Volume(files: posix), disposable: ["acme/challenges"])
            for minutes in [0, 11] { _ = try collector.sweep(now: start + .minutes(Int64(minutes))) }
            #expect(remains() == [])
            #expect(throws: StoreError.self) { try volume.read(key) }
        }
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
        let collector = GarbageCollector(volume: Volume(files: files), disposable: ["acme/challenges"])
        try writer.write(key, .create(bytes("one")))
        try writer.write(key, .remove(nil))
        _ = try collector.sweep(now: start)
        #expect(made.withLock { $0 } == 3)
        #expect(try writer.read(key) == StoredValue(bytes: bytes("again"), version: 3))
        #expect(scratch.names("v2/tombs").isEmpty)
    }

    @Test("A key that cannot be read does not stop the sweep of the others")
    func unreadable() throws {
        let volume = try scratch.volume()
        let collector = GarbageCollector(volume: volume, disposable: ["acme/challenges"])
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

/// Runs a closure before the folder of a removed key is moved to `tombs/`, fails to unlink files, or loses every race to
/// create a folder.
struct InterruptedFileSystem: InterceptedFileSystem {
    let files: any FileSystem
    var unlinks = true
    var losesFolders = false
    var before: @Sendable () -> Void = {}

    func intercept(_ call: FileFault.Call, _ path: String, _ access: FileAccess?) throws(FileFault) {
        switch call {
        case .rename where path.hasPrefix("tombs/removed-"): before()
        case .unlink where !unlinks: throw FileFault(call, path, EIO)
        case .mkdir where losesFolders: try files.makeFolder(path)
        default: break
        }
    }
}
