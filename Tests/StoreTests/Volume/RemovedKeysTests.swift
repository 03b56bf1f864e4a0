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
    private let clock = TestClock(.now())

    /// Polls ten seconds and some minutes later.
    private func poll(_ polled: PolledValues, after minutes: Int64 = 0) throws {
        clock.pass(.minutes(minutes) + .seconds(10))
        try polled.poll()
    }

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
        // A member that has just acted on the removal accepts no older version for half an hour.
        for minutes in [73, 103] as [Int64] {
            _ = try collector.sweep(now: start + .minutes(minutes), settled: start + .minutes(72))
            #expect(collector.isWaiting && scratch.names("v2/agents").contains("a"))
        }
        _ = try collector.sweep(now: start + .minutes(104), settled: start + .minutes(103))
        #expect(!scratch.names("v2/agents").contains("a"))
        _ = try collector.sweep(now: start + .minutes(105))
        #expect(!collector.isWaiting)
    }

    @Test("A key that was created and removed again stays for an hour after its last removal")
    func removedAgain() throws {
        let volume = try scratch.volume()
        let collector = GarbageCollector(volume: volume)
        for (minutes, isPresent) in [(0, true), (60, true), (119, true), (120, false)] as [(Int64, Bool)] {
            if minutes < 61 {
                try volume.write("agents/a", .create(bytes("one")))
                try volume.write("agents/a", .remove(nil))
            }
            _ = try collector.sweep(now: start + .minutes(minutes))
            #expect(scratch.names("v2/agents").contains("a") == isPresent)
        }
    }

    @Test("A watch that found a removal late accepts the key that was created again half an hour after that")
    func foundLate() throws {
        let volume = try scratch.volume(now: clock.reading)
        let (collector, polled) = (GarbageCollector(volume: volume), PolledValues(volume: volume, prefix: "certs"))
        try volume.write("certs/a", .create(bytes("1")))
        try volume.write("certs/a", .replace(1, bytes("2")))
        try poll(polled)
        try volume.write("certs/a", .remove(nil))
        _ = try collector.sweep(now: clock.now)
        try poll(polled, after: 50)
        clock.pass(.minutes(11))
        _ = try collector.sweep(now: clock.now)
        try volume.write("certs/a", .create(bytes("new")))
        for minutes in [0, 5, 10] as [Int64] {
            try poll(polled, after: minutes)
            #expect(polled.current["a"] == nil && polled.problems["a"]?.code == .rolledBack)
        }
        for _ in 0..<2 { try poll(polled, after: 3) }
        #expect(polled.current["a"] == StoredValue(bytes: bytes("new"), version: 1) && polled.problems.isEmpty)
    }

    @Test("The problem of an older version that was put in the place of a removal ends with the return of the removal")
    func returnedRemoval() throws {
        let volume = try scratch.volume(now: clock.reading)
        let polled = PolledValues(volume: volume, prefix: "certs")
        try volume.write("certs/a", .create(bytes("1")))
        try poll(polled)
        try volume.write("certs/a", .remove(nil))
        try poll(polled)
        let removal = scratch.read("v2/certs/a/2.json")
        try FileManager.default.removeItem(atPath: scratch.file("v2/certs/a/2.json"))
        scratch.write("v2/certs/a/1.json", storedFile(bytes("1")))
        try poll(polled)
        #expect(polled.problems["a"]?.code == .rolledBack)
        scratch.write("v2/certs/a/2.json", removal)
        try poll(polled)
        #expect(polled.current["a"] == nil && polled.problems.isEmpty)
    }

    @Test("The problem of a name that cannot be used ends when the name is gone")
    func strayName() throws {
        let polled = PolledValues(volume: try scratch.volume(now: clock.reading), prefix: "certs")
        scratch.write("v2/certs/notes", "x")
        try poll(polled)
        #expect(polled.problems["notes"]?.code == .refused)
        try FileManager.default.removeItem(atPath: scratch.file("v2/certs/notes"))
        for _ in 0..<2 { try poll(polled) }
        #expect(polled.problems.isEmpty)
    }

    @Test("The folder of a removed key with a random name is deleted by the next round")
    func disposable() throws {
        let volume = try scratch.volume()
        let collector = GarbageCollector(volume: volume)
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
            do throws(StoreError) {
                try volume.write(key, .remove(nil))
            } catch {
                // A process that goes on reports a private key that it could not delete.
                #expect(isInterrupted && error.code == .denied)
            }
            #expect(remains().isEmpty == !isInterrupted)
            // What the process left is deleted by another.
            let collector = GarbageCollector(volume: Volume(files: posix))
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
        let collector = GarbageCollector(volume: Volume(files: files))
        try writer.write(key, .create(bytes("one")))
        try writer.write(key, .remove(nil))
        _ = try collector.sweep(now: start)
        #expect(made.withLock { $0 } == 3)
        #expect(try writer.read(key) == StoredValue(bytes: bytes("again"), version: 3))
        #expect(scratch.names("v2/tombs").isEmpty)
    }

    @Test(
        "A running watch delivers a key that is created again after its folder was deleted",
        arguments: [false, true],
        [1, 3, 4] as [UInt64]
    )
    func watched(_ isNoticed: Bool, _ version: UInt64) throws {
        let volume = try scratch.volume(now: clock.reading)
        let (collector, polled) = (GarbageCollector(volume: volume), PolledValues(volume: volume, prefix: "certs"))
        func write(_ versions: UInt64) throws {
            try volume.write("certs/a", .create(bytes("1")))
            for version in 1..<versions { try volume.write("certs/a", .replace(version, bytes("\(version + 1)"))) }
        }
        try volume.write("certs/b", .create(bytes("stays")))
        try write(2)
        try poll(polled)
        try volume.write("certs/a", .remove(nil))
        try poll(polled)
        #expect(polled.values.entries["a"]?.version == 3 && polled.current["a"] == nil)
        _ = try collector.sweep(now: clock.now)
        clock.pass(.minutes(61))
        _ = try collector.sweep(now: clock.now)
        #expect(!scratch.names("v2/certs").contains("a"))
        if isNoticed {
            try poll(polled)
            #expect(polled.values.entries["a"] == nil)
        }
        try write(version)
        try poll(polled)
        #expect(polled.current["a"] == StoredValue(bytes: bytes("\(version)"), version: version))
        #expect(polled.problems.isEmpty)
    }

    @Test("The last keys of a prefix may go; they are not looked up again. A prefix that is missing removes none")
    func lastKeys() throws {
        let files = CountingFileSystem(files: try scratch.posixFiles())
        let volume = Volume(files: files, now: clock.reading)
        let polled = PolledValues(volume: volume, prefix: "acme/authorities")
        let folder = scratch.file("v2/acme/authorities")
        for name in ["a", "b"] { try volume.write(StoreKey("acme/authorities/\(name)"), .create(bytes("x"))) }
        try poll(polled)
        #expect(polled.current.count == 2)
        try FileManager.default.moveItem(atPath: folder, toPath: scratch.file("away"))
        for _ in 0..<3 { #expect(code { try poll(polled) } == .gone) }
        #expect(polled.current.count == 2)
        try FileManager.default.moveItem(atPath: scratch.file("away"), toPath: folder)
        try poll(polled)
        for name in ["a", "b"] { try FileManager.default.removeItem(atPath: "\(folder)/\(name)") }
        for _ in 0..<3 { try poll(polled) }
        #expect(polled.current.isEmpty && polled.problems.isEmpty)
        files.counts.reset()
        try poll(polled)
        // The hints and the prefix.
        #expect(files.counts.kinds == ["list": 2])
    }

    @Test("Versions begin again after the removal of a key was collected, and after nothing else")
    func versions() {
        let values = WatchedValues<UInt64, StoreError> { _, stored in stored.map(\.version) }
        func deliver(_ content: WatchedChange.Content) {
            _ = values.receive(WatchBatch(changes: [WatchedChange(key: key, content: content)]))
        }
        func deliver(_ version: UInt64) { deliver(.value(StoredValue(bytes: [], version: version))) }
        deliver(2)
        for _ in 0..<2 {
            deliver(.removed(version: nil))
            deliver(1)
            #expect(values["a"] == nil && values.entries["a"]?.problem?.code == .rolledBack)
        }
        deliver(.removed(version: 3))
        deliver(2)
        #expect(values["a"] == nil && values.entries["a"]?.problem?.code == .rolledBack)
        deliver(.collected)
        deliver(1)
        #expect(values["a"] == 1 && values.entries["a"]?.problem == nil)
    }

    @Test("The removal of a name that is not known, or not any more, leaves no entry behind")
    func unknownNames() {
        let values = WatchedValues<UInt64, StoreError> { _, stored in stored.map(\.version) }
        for number in 0..<100 { values.remove("\(number)", version: 2) }
        #expect(values.entries.isEmpty)
        values.insert("a", version: 1, 1)
        _ = values.receive(WatchBatch(changes: [WatchedChange(key: key, content: .collected)]))
        values.remove("a", version: 2)
        #expect(values.entries.isEmpty)
    }

    @Test("What was known of a key before its removal deletes nothing of a new one and keeps no second removal")
    func observations() throws {
        let volume = try scratch.volume(now: clock.reading)
        let collector = GarbageCollector(volume: volume)
        func write(_ versions: UInt64) throws {
            try volume.write("agents/a", .create([1]))
            for version in 1..<versions { try volume.write("agents/a", .replace(version, [1])) }
        }
        func collect() throws {
            try volume.write("agents/a", .remove(nil))
            for _ in 0..<2 {
                _ = try collector.sweep(now: clock.now)
                clock.pass(.minutes(61))
            }
            _ = try collector.sweep(now: clock.now)
            #expect(!scratch.names("v2/agents").contains("a"))
        }
        try write(12)
        _ = try collector.sweep(now: clock.now)
        try collect()
        try write(12)
        #expect(scratch.names("v2/agents/a").count == 12)
        try collect()
        try write(11)
        try collect()
    }

    @Test("A key that is created again after it was examined stays where it is")
    func madeAgainBefore() throws {
        let moves = Mutex(0)
        let files = InterruptedFileSystem(files: try scratch.posixFiles()) { moves.withLock { $0 += 1 } }
        let writer = try scratch.volume()
        let collector = GarbageCollector(volume: Volume(files: files))
        try writer.write(key, .create(bytes("one")))
        try writer.write(key, .remove(nil))
        let found = try collector.examine(now: start)
        #expect(found == [.key(key, removal: 2)])
        try writer.write(key, .create(bytes("again")))
        #expect(collector.delete(found[...]).isEmpty)
        #expect(moves.withLock { $0 } == 0)
        #expect(try writer.read(key) == StoredValue(bytes: bytes("again"), version: 3))
    }

    @Test(
        "A value is not lost if the process ends, or cannot read, between moving a folder and moving it back",
        arguments: [FileFault.Call.list, .open, .rename]
    )
    func interruptedMove(_ failing: FileFault.Call) throws {
        let writer = try scratch.volume()
        let key: StoreKey = "agents/a"
        try writer.write(key, .create(bytes("one")))
        try writer.write(key, .remove(nil))
        let files = FailingAfterMove(files: try scratch.posixFiles(), failing: failing) {
            _ = try? writer.write(key, .create(bytes("again")))
        }
        let collector = GarbageCollector(volume: Volume(files: files), disposable: ["agents"])
        _ = try? collector.sweep(now: start)
        #expect(files.hasMoved.withLock { $0 })
        // Another process finds what this one has left.
        let other = GarbageCollector(volume: try scratch.volume())
        _ = try other.sweep(now: start)
        #expect(try writer.read(key) == StoredValue(bytes: bytes("again"), version: 3))
        #expect(scratch.names("v2/tombs").isEmpty)
    }

    @Test("The folder of a removed key is erased ten minutes after it was moved, and not while it cannot be read")
    func erased() throws {
        let writer = try scratch.volume()
        let key: StoreKey = "agents/a"
        try writer.write(key, .create(bytes("one")))
        try writer.write(key, .remove(nil))
        _ = try GarbageCollector(volume: writer, disposable: ["agents"]).sweep(now: start)
        #expect(scratch.names("v2/tombs").count == 1)
        let collector = GarbageCollector(volume: writer)
        for minutes in [0, 9] as [Int64] { _ = try collector.sweep(now: start + .minutes(minutes)) }
        #expect(scratch.names("v2/tombs").count == 1)
        let files = FailingAfterMove(files: try scratch.posixFiles(), failing: .open, hasMoved: true)
        let blind = GarbageCollector(volume: Volume(files: files))
        for minutes in [0, 11] as [Int64] { _ = try blind.sweep(now: start + .minutes(minutes)) }
        #expect(scratch.names("v2/tombs").isEmpty && scratch.names("v2/agents/a") == ["2.json"])
        _ = try GarbageCollector(volume: writer, disposable: ["agents"]).sweep(now: start)
        for minutes in [11, 22] as [Int64] { _ = try collector.sweep(now: start + .minutes(minutes)) }
        #expect(scratch.names("v2/tombs").isEmpty && !scratch.names("v2/agents").contains("a"))
    }

    @Test("A key that cannot be read does not stop the sweep of the others")
    func unreadable() throws {
        let volume = try scratch.volume()
        let collector = GarbageCollector(volume: volume)
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

/// Runs a closure before the folder of a removed key is moved to `tombs/`, fails to unlink files, or loses every race
/// to create a folder.
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

/// Runs a closure before the first move of a removed key's folder to `tombs/`. From then on calls of a kind fail for
/// everything in `tombs/`, and so do all moves back.
final class FailingAfterMove: InterceptedFileSystem {
    let files: any FileSystem
    let hasMoved: Mutex<Bool>
    private let failing: FileFault.Call
    private let before: @Sendable () -> Void

    init(
        files: any FileSystem,
        failing: FileFault.Call,
        hasMoved: Bool = false,
        before: @escaping @Sendable () -> Void = {}
    ) {
        self.files = files
        self.failing = failing
        self.hasMoved = Mutex(hasMoved)
        self.before = before
    }

    func intercept(_ call: FileFault.Call, _ path: String, _ access: FileAccess?) throws(FileFault) {
        let isOfTomb = path.hasPrefix("tombs/removed-")
        if hasMoved.withLock({ $0 }) {
            if call == failing, isOfTomb || call == .rename { throw FileFault(call, path, EIO) }
        } else if call == .rename, isOfTomb {
            before()
            hasMoved.withLock { $0 = true }
        }
    }
}
