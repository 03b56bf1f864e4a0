import NIOCore
import Store
import Testing

/// A process that dies in the middle of an action: at its first call, at its second, and so on to the last; with and
/// without a power loss of the server at that moment. The next process finds the state before or the state after.
@Suite("A crash at every step")
struct CrashTests {
    @Test("Creating a value")
    func creating() async throws {
        try await atEveryStep { volume throws(StoreError) in
            try volume.write("acme/new", .create(bytes("new")))
        } check: { volume, isDone in
            let found = try value(volume, "acme/new")
            #expect(found == nil && !isDone || found == StoredValue(bytes: bytes("new"), version: 1))
            if found == nil { #expect(try volume.write("acme/new", .create(bytes("again"))) == 1) }
        }
    }

    @Test("Replacing a value")
    func replacing() async throws {
        try await atEveryStep { volume throws(StoreError) in
            try volume.write("acme/old", .replace(1, bytes("new")))
        } check: { volume, isDone in
            let found = try #require(try value(volume, "acme/old"))
            #expect(found.version == 2 ? found.bytes == bytes("new") : found.bytes == bytes("old") && !isDone)
            #expect(try volume.write("acme/old", .replace(found.version, bytes("next"))) == found.version + 1)
        }
    }

    @Test("Removing a value")
    func removing() async throws {
        try await atEveryStep { volume throws(StoreError) in
            try volume.write("acme/old", .remove(1))
        } check: { volume, isDone in
            let found = try value(volume, "acme/old")
            #expect(found == nil || found == StoredValue(bytes: bytes("old"), version: 1) && !isDone)
            // The versions of a removed key continue.
            if found == nil { #expect(try volume.write("acme/old", .create(bytes("again"))) == 3) }
        }
    }

    @Test("Acquiring a lease that was not released, and writing under it")
    func takingOver() async throws {
        try await atEveryStep { volume throws(StoreError) in
            let lease = try acquireLease(volume)
            _ = try lease.write("acme/old", .replace(2, bytes("new")))
        } check: { volume, isDone in
            let found = try #require(try value(volume, "acme/old"))
            #expect(isDone ? found.bytes == bytes("new") && found.version == 3 : found.version <= 3)
            // The next holder raises the epoch of every guarded key, also of one that had no version.
            let lease = try acquireLease(volume)
            #expect(try volume.read("acme/old").epoch == lease.epoch)
            #expect(
                code { try volume.write("acme/none", .create([1]), epoch: lease.epoch - 1) }
                    == .fenced
            )
        } prepare: { volume throws(StoreError) in
            _ = try acquireLease(volume)
        }
    }

    @Test("Founding a cluster")
    func founding() async throws {
        try await atEveryStep { volume throws(StoreError) in
            _ = try await volume.openCluster()
        } check: { volume, _ in
            let first = try await volume.openCluster()
            #expect(try await volume.openCluster() == first)
        }
    }

    @Test("Rotating the cluster's key, at each of its steps")
    func rotating() async throws {
        try await atEveryStep { volume throws(StoreError) in
            try await rotate(volume)
        } check: { volume, isDone in
            let cluster = try await volume.openCluster()
            #expect(!isDone || cluster.keyring.keys.count == 1)
            try await rotate(volume)
            let after = try await volume.openCluster()
            #expect(after.id == cluster.id && after.keyring.signing != cluster.keyring.signing)
        } prepare: { volume throws(StoreError) in
            _ = try await volume.openCluster()
        }
    }

    @Test("Restoring a backup")
    func restoring() async throws {
        let server = SimulatedVolume(seed: 1) { 0 }
        let volume = Volume(files: SimulatedFileSystem(volume: server))
        try prepareStore(volume)
        let source = VolumeStore(volume: volume)
        defer { source.close() }
        let cluster = try await source.openCluster(mounted: nil).cluster
        let sealed: [StoreKey] = ["agents/a", "certs/app.test"]
        for key in sealed {
            try volume.write(
                key,
                .create(SealedDocument.seal(bytes("{}"), at: key, version: 1, with: cluster.keyring.signing))
            )
        }
        try volume.write("acme/orders/x", .create([9]))
        let archive = ArchiveFile(inMemory: "x")
        _ = try await source.backup(into: archive, mounted: nil, release: "test", time: 1)
        let backup = try Backup(archive, mounted: nil)
        // One thread, so that the steps are the same each time.
        var options = VolumeStore.Options()
        options.bulkThreadsAtMost = 1
        try await atEveryStep { [options] volume throws(StoreError) in
            let store = VolumeStore(volume: volume, options: options)
            defer { store.close() }
            try await store.restore(backup)
        } check: { volume, isDone in
            let store = VolumeStore(volume: volume, options: options)
            defer { store.close() }
            if try await store.readCluster(mounted: nil) == nil {
                #expect(!isDone)
                try await store.restore(backup)
                // The second restore has made durable what the first had left.
                try #require(volume.files as? SimulatedFileSystem).volume.losePower()
            }
            #expect(try await store.readCluster(mounted: nil) == cluster)
            for key in sealed + ["acme/orders/x"] { #expect(try await store.read(key) == source.read(key)) }
        }
    }

    @Test("Acquiring, renewing and releasing a lease")
    func leasing() async throws {
        try await atEveryStep { volume throws(StoreError) in
            let lease = try acquireLease(volume)
            try lease.check()
            try lease.renew(now: volume.now())
            try lease.release(now: volume.now())
        } check: { volume, isDone in
            // The remains of the lease block other processes no longer than its time to live.
            let lease = try acquireLease(volume)
            #expect(lease.epoch >= (isDone ? 2 : 1))
            try lease.check()
        }
    }

    @Test("Starting a journal, committing to it, and starting a new generation")
    func journal() async throws {
        let incarnation = randomIncarnation()
        let rows = (0..<40).map { number in (bytes("row \(number)"), [UInt8](repeating: UInt8(number), count: 100)) }
        try await atEveryStep { volume throws(StoreError) in
            var pace = JournalWriter.Pace()
            pace.logLimit = 1_000
            pace.logAllocationStep = 4_096
            let writer = JournalWriter(volume: volume, pace: pace)
            try writer.begin(as: incarnation, info: bytes("card"), now: volume.now())
            for (number, row) in rows.enumerated() {
                writer.put(key: row.0, value: row.1)
                guard number % 5 == 4 else { continue }
                _ = try writer.tick(now: writer.nextTick)
            }
        } check: { volume, isDone in
            guard try volume.replicaFolders().contains(incarnation) else {
                #expect(!isDone)
                return
            }
            let journal = MirroredJournal(volume: volume, replica: incarnation)
            try journal.poll()
            let table = try #require(journal.table)
            // The rows are those after some number of whole commits.
            #expect(table.rows.count % 5 == 0 && (!isDone || table.rows.count == rows.count))
            for (key, value) in rows.prefix(table.rows.count) { #expect(table.rows[key] == value) }
            #expect(try volume.info(of: incarnation) == bytes("card"))
        }
    }

    @Test("Archiving a dead replica")
    func burying() async throws {
        let incarnation = randomIncarnation()
        try await atEveryStep { volume throws(StoreError) in
            try volume.archive(incarnation)
        } check: { volume, isDone in
            let isThere = try volume.replicaFolders().contains(incarnation)
            #expect(!isThere || !isDone)
            if isThere { try volume.archive(incarnation) }
            #expect(try !volume.replicaFolders().contains(incarnation))
        } prepare: { volume throws(StoreError) in
            let writer = JournalWriter(volume: volume)
            try writer.begin(as: incarnation, info: bytes("card"), now: volume.now())
            try? volume.files.syncFolder("replicas")
        }
    }
}

extension CrashTests {
    /// - Parameters:
    ///   - act: The action that is interrupted.
    ///   - check: Verifies the state that the next process finds; its last parameter is whether the action was
    ///     completed.
    private func atEveryStep(
        _ act: (Volume) async throws(StoreError) -> Void,
        check: (Volume, _ isDone: Bool) async throws -> Void,
        prepare: (Volume) async throws(StoreError) -> Void = { _ throws(StoreError) in }
    ) async throws {
        for losesPower in [false, true] {
            var steps = 0
            for last in 1...2_000 {
                // Any part of what was not durable may survive: try a few combinations.
                for seed in 0..<(losesPower ? 4 : 1) as Range<UInt64> {
                    let clock = SimulatedClock()
                    let server = SimulatedVolume(seed: seed &* 7_919 &+ UInt64(last)) { clock.now }
                    let healthy = Volume(files: SimulatedFileSystem(volume: server), now: clock.deadline)
                    try prepareStore(healthy)
                    try await prepare(healthy)
                    let victim = Victim(server: server, dyingAt: last)
                    var isDone = false
                    do throws(StoreError) {
                        try await act(Volume(files: victim.files, now: clock.deadline))
                        isDone = !victim.files.isDead
                    } catch {
                        if !victim.files.isDead { Issue.record("step \(last): \(error)") }
                    }
                    victim.files.die()
                    if losesPower { server.losePower() }
                    try await check(Volume(files: SimulatedFileSystem(volume: server), now: clock.deadline), isDone)
                    steps = victim.calls
                }
                if steps < last { break }
            }
            #expect(steps > 2 && steps < 2_000, "the action has \(steps) steps")
        }
    }

    private func prepareStore(_ volume: Volume) throws(StoreError) {
        try volume.prepare()
        try volume.write("acme/old", .create(bytes("old")))
    }

    private func value(_ volume: Volume, _ key: StoreKey) throws(StoreError) -> StoredValue? {
        do throws(StoreError) {
            return try volume.read(key)
        } catch {
            guard error.code == .notFound else { throw error }
            return nil
        }
    }

    private func acquireLease(_ volume: Volume) throws(StoreError) -> HeldLease {
        var options = LeaseOptions(guards: ["acme/old", "acme/none"])
        options.timeToLive = .seconds(3)
        let candidate = LeaseCandidate(volume: volume, lease: "site", options: options, name: "test")
        for _ in 0..<100 {
            switch try candidate.poll(now: volume.now()) {
            case .acquire(let epoch): if let lease = try candidate.acquire(epoch) { return lease }
            // Every reading of the clock advances it.
            case .wait: continue
            }
        }
        throw StoreError(.stalled, "locks/site", "the lease is never released")
    }

    private func rotate(_ volume: Volume) async throws(StoreError) {
        let store = VolumeStore(volume: volume)
        defer { store.close() }
        var cluster = try await store.openCluster(mounted: nil).cluster
        let new = ClusterKey.generate()
        try await store.createClusterKey(new)
        cluster = try cluster.adding(new)
        try await store.replace(cluster)
        cluster = try cluster.signing(with: new.id)
        try await store.replace(cluster)
        for key in cluster.keyring.keys.dropFirst() {
            cluster = try cluster.retiring(key.id)
            try await store.replace(cluster)
        }
    }
}

/// A monotonic clock that advances by a tenth of a second with every reading.
private final class SimulatedClock: @unchecked Sendable {
    private(set) var now: UInt64 = 1_000_000_000_000

    var deadline: @Sendable () -> NIODeadline {
        { [self] in
            now += 100_000_000
            return .uptimeNanoseconds(now)
        }
    }
}

/// A client of the server that dies at one of its calls.
private final class Victim: @unchecked Sendable {
    private(set) var files: SimulatedFileSystem!
    private(set) var calls = 0

    init(server: SimulatedVolume, dyingAt last: Int) {
        files = SimulatedFileSystem(volume: server) { [unowned self] in
            calls += 1
            if calls == last { files.die() }
        }
    }
}
