import Glibc
import NIOCore
import Store
import TestSupport
import Testing

@Suite("Old versions")
struct GarbageCollectorTests {
    private let scratch = ScratchFolder()
    private let clock = TestClock()

    private func volume() throws -> Volume { try scratch.volume(now: clock.reading) }

    private func versions(_ key: StoreKey) -> [Int] {
        scratch.names("v2/\(key)").compactMap { Int($0.split(separator: ".")[0]) }.sorted()
    }

    @Test(
        "The replacement and the removal of a private key delete the temporary files of writers that were killed",
        arguments: ["certs/a", "acme/orders/x", "acme/accounts/y"] as [StoreKey],
        [.replace(1, [2]), .put([2]), .remove(1)] as [ValueWrite]
    )
    func remains(_ key: StoreKey, _ change: ValueWrite) throws {
        let volume = try volume()
        // A writer that is killed before its link leaves its temporary file.
        func leave(_ key: StoreKey) throws {
            _ = try volume.writeTemporary([7], suffix: Volume.temporarySuffix(for: key), durable: true)
        }
        try volume.write(key, .create([1]))
        for key: StoreKey in [key, key, "certs/b", "agents/a"] { try leave(key) }
        // A restore that is killed leaves a folder.
        try volume.files.makeFolder("tmp/0-group")
        try volume.files.rename(volume.writeTemporary([7], durable: true), to: "tmp/0-group/1")
        #expect(scratch.names("v2/tmp").count == 5)
        try volume.write(key, change)
        #expect(scratch.names("v2/tmp").count == 2)
    }

    /// Writes each version from its own volume, as separate commands do.
    private func write(_ key: StoreKey, versions: Int) throws {
        for version in 1...UInt64(versions) {
            let command = try volume()
            try command.prepare()
            if version == 1 {
                try command.write(key, .create([1]))
            } else {
                try command.write(key, .replace(version - 1, [UInt8(version & 0xff)]))
            }
        }
    }

    @Test(
        "Versions written by commands are deleted ten minutes after they were seen superseded; the eight newest stay",
        arguments: ["agents/a", "acme/names/x", "cluster.json"] as [StoreKey]
    )
    func commands(_ key: StoreKey) throws {
        try write(key, versions: 20)
        #expect(versions(key) == Array(1...20))
        let gateway = try volume()
        let collector = GarbageCollector(volume: gateway)
        func sweep() throws -> Int { try collector.sweep(now: clock.now) }
        #expect(try sweep() == 0)
        try gateway.write(key, .replace(20, [21]))
        clock.pass(.minutes(9))
        #expect(try sweep() == 0 && versions(key).count == 21)
        clock.pass(.minutes(2))
        // Version 20 was the newest then: those before it have been superseded for eleven minutes.
        #expect(try sweep() == 13)
        #expect(versions(key) == Array(14...21))
        clock.pass(.minutes(60))
        #expect(try sweep() == 0)
        #expect(try gateway.read(key) == StoredValue(bytes: [21], version: 21))
        #expect(try volume().write(key, .replace(21, [22])) == 22)
    }

    @Test(
        "Of a value with a private key only the replaced version stays; a new holder's copy keeps it, too",
        arguments: ["certs/a", "acme/orders/x", "acme/accounts/y"] as [StoreKey]
    )
    func secrets(_ key: StoreKey) throws {
        try write(key, versions: 20)
        #expect(versions(key) == [19, 20])
        let volume = try volume()
        try volume.raise(key, to: 7)
        #expect(versions(key) == [19, 20, 21])
        #expect(try volume.earlier(key).map(\.version) == [20, 19])
        try volume.write(key, .replace(21, [1]), epoch: 7)
        #expect(versions(key) == [21, 22])
        try volume.write(key, .remove(nil), epoch: 7)
        #expect(versions(key) == [23])
        #expect(try volume.earlier(key) == [])
        try volume.write(key, .create([2]), epoch: 7)
        #expect(try volume.earlier(key) == [])
    }

    @Test(
        "Private keys that a process could not delete before it ended are deleted in the next round",
        arguments: ["certs/a", "acme/orders/x", "acme/accounts/y"] as [StoreKey]
    )
    func abandonedSecrets(_ key: StoreKey) throws {
        let volume = try volume()
        try volume.write(key, .create([1]))
        func link(_ version: Int, _ value: [UInt8]) {
            scratch.write("v2/\(key)/\(version).json", storedFile(value))
        }
        link(2, [2])
        link(3, [3])
        let collector = GarbageCollector(volume: volume)
        #expect(try collector.sweep(now: clock.now) == 1)
        #expect(versions(key) == [2, 3])
        // Copies by new holders of the lease replace nothing, and a damaged version is no replaced one.
        link(4, [3])
        #expect(try collector.sweep(now: clock.now) == 0 && versions(key) == [2, 3, 4])
        scratch.write("v2/\(key)/5.json", bytes("damaged"))
        link(6, [6])
        #expect(try collector.sweep(now: clock.now) == 2)
        #expect(versions(key) == [4, 5, 6])
        #expect(try volume.earlier(key).map(\.bytes) == [[3]])
        #expect(try volume.write(key, .replace(6, [7])) == 7)
        #expect(versions(key) == [6, 7])
    }

    @Test("Versions newer than the last one seen stay, however many there are")
    func young() throws {
        try write("agents/a", versions: 10)
        let collector = GarbageCollector(volume: try volume())
        _ = try collector.sweep(now: clock.now)
        let command = try volume()
        for version in 10..<30 as Range<UInt64> { try command.write("agents/a", .replace(version, [1])) }
        clock.pass(.minutes(11))
        // The versions written since then were superseded at an unknown time.
        #expect(try collector.sweep(now: clock.now) == 9)
        #expect(versions("agents/a") == Array(10...30))
        clock.pass(.minutes(11))
        #expect(try collector.sweep(now: clock.now) == 13)
        #expect(versions("agents/a") == Array(23...30))
    }

    /// A file system on which some calls fail.
    private struct FailingFileSystem: InterceptedFileSystem {
        let files: any FileSystem
        let failing = Observed<Set<String>>([])

        func intercept(_ call: FileFault.Call, _ path: String, _ access: FileAccess?) throws(FileFault) {
            if failing.value.contains("\(call.rawValue) \(path)") { throw FileFault(call, path, EIO) }
        }
    }

    @Test(
        "A listing or deletion that fails once delays the deletion of a file to the next round, and no other",
        arguments: ["list tombs", "list tmp", "list agents", "unlink tmp/a"]
    )
    func failure(_ call: String) throws {
        let files = FailingFileSystem(files: try scratch.posixFiles())
        let volume = Volume(files: files, now: clock.reading)
        try volume.write("agents/a", .create([1]))
        let collector = GarbageCollector(volume: volume)
        func sweep() { _ = try? collector.sweep(now: clock.now) }
        for name in ["a", "b"] { scratch.write("v2/tmp/\(name)", [1]) }
        sweep()
        clock.pass(.minutes(9))
        files.failing.update { $0 = [call] }
        sweep()
        clock.pass(.minutes(2))
        sweep()
        let isRound = call.hasPrefix("unlink") || call.hasSuffix("agents")
        #expect(!isRound || !scratch.names("v2/tmp").contains("b"))
        files.failing.update { $0 = [] }
        clock.pass(.minutes(1))
        sweep()
        #expect(scratch.names("v2/tmp").isEmpty)
    }

    @Test("A removed key is deleted a round after its older versions, and one that is removed again after an hour")
    func removedKeys() throws {
        let volume = try volume()
        let collector = GarbageCollector(volume: volume)
        func sweep(after minutes: Int64) throws {
            clock.pass(.minutes(minutes))
            _ = try collector.sweep(now: clock.now)
        }
        func remove() throws {
            try volume.write("agents/a", .create([1]))
            try volume.write("agents/a", .remove(nil))
        }
        try remove()
        try sweep(after: 0)
        scratch.write("v2/agents/a/1.json", storedFile([1]))
        try sweep(after: 61)
        #expect(versions("agents/a") == [2])
        try sweep(after: 1)
        #expect(versions("agents/a") == [])
        try remove()
        try sweep(after: 1)
        #expect(versions("agents/a") == [2])
        try sweep(after: 61)
        #expect(versions("agents/a") == [])
    }

    @Test("On a slow volume the collection of 10,000 keys delays no heartbeat by more than its period")
    func bounded() throws {
        let server = SimulatedVolume(seed: 1) { [clock] in clock.now.uptimeNanoseconds }
        let files = SimulatedFileSystem(volume: server) { [clock] in clock.pass(.milliseconds(5)) }
        let volume = Volume(files: files, now: clock.reading)
        try volume.prepare()
        for folder in ["acme/challenges", "acme/orders"] { try files.makeFolder(folder) }
        func make(_ name: String, in folder: SimulatedVolume.Node, _ bytes: [UInt8]? = nil) -> SimulatedVolume.Node {
            let node = server.make(isFolder: bytes == nil)
            node.data = bytes ?? []
            server.set(folder, name, node.number)
            return node
        }
        let removed = storedFile([], isRemoved: true)
        let challenges = try #require(server.find("acme/challenges"))
        for number in 0..<8_000 { _ = make("2.json", in: make("c\(number)", in: challenges), removed) }
        let orders = try #require(server.find("acme/orders"))
        let folders = (0..<2_000).map { make("o\($0)", in: orders) }
        for folder in folders { for version in 1...12 { _ = make("\(version).json", in: folder, storedFile([1])) } }

        let collector = GarbageCollector(volume: volume)
        let journal = JournalWriter(volume: volume, pace: JournalWriter.Pace())
        try journal.begin(as: randomIncarnation(), info: [1], now: clock.now)
        var (beat, delays) = (clock.now, [TimeAmount]())
        // The thread of the writer, which also writes heartbeats, is free between two slices.
        func writeHeartbeat() throws {
            guard clock.now >= journal.nextTick, try journal.tick(now: clock.now) == .committed else { return }
            delays.append(clock.now - beat)
            beat = clock.now
        }
        // Each call takes 5 ms, and a slice ends with the call that exceeds its time.
        let longest = GarbageCollector.sliceTime + .milliseconds(40)
        for _ in 0..<3 {
            repeat {
                var began = clock.now
                var rest = try collector.examine(now: clock.now)[...]
                #expect(clock.now - began < longest)
                try writeHeartbeat()
                while !rest.isEmpty {
                    began = clock.now
                    rest = collector.delete(rest)
                    #expect(clock.now - began < longest)
                    try writeHeartbeat()
                }
            } while !collector.isRoundFinished
            clock.pass(.minutes(11))
            beat = clock.now
        }
        #expect(delays.count > 300 && delays.allSatisfy { $0 < .seconds(2) })
        #expect(challenges.entries.isEmpty && server.find("tombs")?.entries.isEmpty == true)
        #expect(folders.allSatisfy { $0.entries.count == 8 && $0.entries["12.json"] != nil })
    }
}
