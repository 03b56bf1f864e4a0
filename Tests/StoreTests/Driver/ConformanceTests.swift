import Dispatch
import Foundation
import NIOCore
import Store
import Synchronization
import TestSupport
import Testing

/// The drivers that the conformance tests run on; the volume driver runs on each file system.
enum Driver: String, CaseIterable, Sendable {
    case memory
    case volume
    case simulatedVolume

    /// Opens a store. The owner has to live as long as the store.
    func open() throws -> (store: any Store, owner: ScratchFolder?) {
        var options = VolumeStore.Options()
        options.watchInterval = .milliseconds(100)
        switch self {
        case .memory: return (VolumeStore.inMemory(options), nil)
        case .volume:
            let scratch = ScratchFolder()
            return (VolumeStore(volume: try scratch.volume(), options: options), scratch)
        case .simulatedVolume:
            let server = SimulatedVolume(seed: 1) { NIODeadline.now().uptimeNanoseconds }
            server.faults = .caching
            let volume = Volume(files: SimulatedFileSystem(volume: server))
            try volume.prepare()
            return (VolumeStore(volume: volume, options: options), nil)
        }
    }
}

@Suite("Every driver")
struct ConformanceTests {
    @Test(
        "A value is created once, replaced by a writer that knows its newest version, and removed",
        arguments: Driver.allCases
    )
    func values(_ driver: Driver) async throws {
        let (store, owner) = try driver.open()
        defer { withExtendedLifetime(owner) { store.close() } }
        let key: StoreKey = "agents/a1"
        #expect(await code { _ = try await store.read(key) } == .notFound)
        #expect(await code { try await store.write(key, .replace(1, [1])) } == .notFound)
        #expect(try await store.write(key, .create(bytes("one"))) == 1)
        #expect(await code { try await store.write(key, .create(bytes("two"))) } == .exists(newest: 1))
        #expect(try await store.read(key) == StoredValue(bytes: bytes("one"), version: 1))
        #expect(try await store.write(key, .replace(1, bytes("two"))) == 2)
        #expect(await code { try await store.write(key, .replace(1, [3])) } == .conflict(newest: 2))
        #expect(await code { try await store.write(key, .remove(1)) } == .conflict(newest: 2))
        #expect(try await store.read(key) == StoredValue(bytes: bytes("two"), version: 2))
        try await store.write(key, .remove(2))
        #expect(await code { _ = try await store.read(key) } == .notFound)
        #expect(await code { try await store.write(key, .remove(nil)) } == .notFound)
        #expect(await code { try await store.write(key, .replace(3, [3])) } == .notFound)
        // Version numbers continue after a removal.
        #expect(try await store.write(key, .create(bytes("three"))) == 4)
        #expect(try await store.read(key).version == 4)
    }

    @Test(
        "A cluster is founded once, and its backup becomes the same cluster in any driver",
        arguments: Driver.allCases
    )
    func founding(_ driver: Driver) async throws {
        let (store, owner) = try driver.open()
        defer { withExtendedLifetime(owner) { store.close() } }
        let founders = try await withThrowingTaskGroup(of: (cluster: ClusterIdentity, isFounder: Bool).self) { group in
            for _ in 0..<4 { group.addTask { try await store.openCluster(mounted: nil) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        let cluster = founders[0].cluster
        #expect(founders.allSatisfy { $0.cluster == cluster } && founders.count { $0.isFounder } == 1)
        for index in 0..<40 {
            try await store.write(try StoreKey("acme/names/\(index)"), .create([UInt8(index & 255)]))
        }
        let file = ArchiveFile(inMemory: "x")
        let summary = try await store.backup(into: file, mounted: nil, release: "test", time: 1)
        #expect(summary.fileCount == 42 && summary.notes.isEmpty)
        for other in Driver.allCases {
            let (target, owner) = try other.open()
            defer { withExtendedLifetime(owner) { target.close() } }
            try await target.restore(Backup(file, mounted: nil))
            #expect(try await target.readCluster(mounted: nil) == cluster)
            #expect(try await target.readAll("acme/names").count == 40)
        }
    }

    @Test("All values of a prefix are read at once, without those that were removed", arguments: Driver.allCases)
    func readingAll(_ driver: Driver) async throws {
        let (store, owner) = try driver.open()
        defer { withExtendedLifetime(owner) { store.close() } }
        #expect(try await store.readAll("agents").isEmpty)
        for number in 0..<300 { try await store.write(try StoreKey("agents/k\(number)"), .create(bytes("\(number)"))) }
        try await store.write("agents/k7", .replace(1, bytes("seven")))
        try await store.write("agents/k8", .remove(1))
        try await store.write("acme/account.json", .create(bytes("{}")))
        let all = Dictionary(uniqueKeysWithValues: try await store.readAll("agents").map { ($0.key, $0.value) })
        #expect(all.count == 299 && all["agents/k8"] == nil)
        #expect(try all["agents/k7"]?.get() == StoredValue(bytes: bytes("seven"), version: 2))
        #expect(try all["agents/k299"]?.get() == StoredValue(bytes: bytes("299"), version: 1))
    }

    @Test("A prefix lists the keys one level below it", arguments: Driver.allCases)
    func listing(_ driver: Driver) async throws {
        let (store, owner) = try driver.open()
        defer { withExtendedLifetime(owner) { store.close() } }
        #expect(try await store.list("agents") == [])
        for name in ["b", "a", "c"] { try await store.write(StoreKey("agents/\(name)"), .create([1])) }
        try await store.write("acme/le/account.json", .create([1]))
        #expect(try await store.list("agents").map(\.path) == ["agents/a", "agents/b", "agents/c"])
        #expect(try await store.list("acme/le").map(\.path) == ["acme/le/account.json"])
    }

    @Test("Of several writers of a value exactly one writes each version", arguments: Driver.allCases)
    func races(_ driver: Driver) async throws {
        let (store, owner) = try driver.open()
        defer { withExtendedLifetime(owner) { store.close() } }
        let key: StoreKey = "agents/counter"
        let made = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<16 {
                // The same bytes, so that they cannot tell which writer won.
                group.addTask { (try? await store.write(key, .create(bytes("0")))) != nil }
            }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(made == 1)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    var left = 5
                    while left > 0 {
                        guard let value = try? await store.read(key),
                            let count = Int(String(decoding: value.bytes, as: UTF8.self))
                        else { continue }
                        if (try? await store.write(key, .replace(value.version, bytes("\(count + 1)")))) != nil {
                            left -= 1
                        }
                    }
                }
            }
        }
        #expect(try await store.read(key) == StoredValue(bytes: bytes("40"), version: 41))
    }

    @Test("A value has a size limit", arguments: Driver.allCases)
    func size(_ driver: Driver) async throws {
        let (store, owner) = try driver.open()
        defer { withExtendedLifetime(owner) { store.close() } }
        let most = [UInt8](repeating: 7, count: Volume.valueLimit)
        #expect(try await store.write("agents/large", .create(most)) == 1)
        #expect(try await store.read("agents/large").bytes == most)
        #expect(await code { try await store.write("agents/larger", .create(most + [7])) } == .tooLarge)
    }

    @Test(
        "A watch delivers the existing values and then every change, again if it cannot be used",
        arguments: Driver.allCases
    )
    func watching(_ driver: Driver) async throws {
        let (store, owner) = try driver.open()
        defer { withExtendedLifetime(owner) { store.close() } }
        try await store.write("agents/a", .create([1]))
        let delivered = Mutex<[WatchedChange]>([])
        let isComplete = Atomic(false)
        let rejections = Atomic(3)
        let watch = store.watch(.below("agents")) { batch in
            delivered.withLock { $0 += batch.changes }
            if batch.isComplete { isComplete.store(true, ordering: .relaxed) }
            // The third version is refused three times.
            return batch.changes.filter { $0.isVersion(3) && rejections.subtract(1, ordering: .relaxed).oldValue > 0 }
                .map(\.key)
        }
        func expect(_ changes: [WatchedChange.Content]) async throws {
            try await eventually("\(changes)") { delivered.withLock { $0.count >= changes.count } }
            #expect(delivered.withLock { $0.map(\.content) } == changes)
            delivered.withLock { $0 = [] }
        }
        try await expect([.value(StoredValue(bytes: [1], version: 1))])
        try await eventually("the first pass") { isComplete.load(ordering: .relaxed) }
        try await store.write("agents/a", .replace(1, [2]))
        try await expect([.value(StoredValue(bytes: [2], version: 2))])
        try await store.write("acme/elsewhere", .create([1]))
        try await store.write("agents/a", .replace(2, [3]))
        try await expect(Array(repeating: .value(StoredValue(bytes: [3], version: 3)), count: 4))
        try await store.write("agents/a", .remove(nil))
        try await expect([.removed(version: 4)])
        watch.cancel()
    }

    @Test(
        "A value that could not be used is not delivered again after the version that replaces it",
        arguments: Driver.allCases
    )
    func rejectedValues(_ driver: Driver) async throws {
        let (store, owner) = try driver.open()
        defer { withExtendedLifetime(owner) { store.close() } }
        let key: StoreKey = "agents/a"
        let delivered = Mutex<[UInt64]>([])
        let isBusy = Atomic(false)
        let overlaps = Atomic(0)
        let (isRepeated, isReplaced) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        let watch = store.watch(.only(key)) { batch in
            for change in batch.changes {
                guard case .value(let stored) = change.content else { continue }
                if isBusy.exchange(true, ordering: .relaxed) { overlaps.add(1, ordering: .relaxed) }
                // The second delivery of a version lasts until the next version has been written.
                if delivered.withLock({ $0.count { $0 == stored.version } }) == 1 {
                    isRepeated.signal()
                    _ = isReplaced.wait(timeout: .now() + .seconds(10))
                }
                delivered.withLock { $0.append(stored.version) }
                isBusy.store(false, ordering: .relaxed)
            }
            return batch.changes.map(\.key)
        }
        try await store.write(key, .create([0]))
        for version in 1...UInt64(4) {
            #expect(await wait(isRepeated))
            try await store.write(key, .replace(version, [UInt8(version)]))
            isReplaced.signal()
        }
        try await eventually("the last version") { delivered.withLock { $0.last == 5 } }
        watch.cancel()
        isReplaced.signal()
        let versions = delivered.withLock { $0 }
        #expect(versions == versions.sorted() && overlaps.load(ordering: .relaxed) == 0, "\(versions)")
    }

    /// Waits for a semaphore on a thread that may be blocked, and returns whether it was signalled in time.
    private func wait(_ semaphore: DispatchSemaphore) async -> Bool {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                continuation.resume(returning: semaphore.wait(timeout: .now() + .seconds(10)) == .success)
            }
        }
    }

    @Test("A lease has one holder at a time, and each holder a higher epoch", arguments: Driver.allCases)
    func leases(_ driver: Driver) async throws {
        let (store, owner) = try driver.open()
        defer { withExtendedLifetime(owner) { store.close() } }
        let options = LeaseOptions(guards: ["certs/site"])
        let first = try await store.lease("site", options)
        #expect(first.epoch == 1 && first.isHeld)
        try await first.check()
        var impatient = options
        impatient.patience = .milliseconds(300)
        #expect(await code { _ = try await store.lease("site", impatient) } == .stalled)
        let waiting = Task { try await store.lease("site", options) }
        await first.release()
        #expect(!first.isHeld)
        #expect(await code { try await first.check() } == .fenced)
        let second = try await waiting.value
        #expect(second.epoch == 2 && second.isHeld)
        await second.release()
    }

    @Test("A wait for a lease is reported once, with the holder, which the final error names, too")
    func leaseWait() async throws {
        let store = VolumeStore.inMemory()
        defer { store.close() }
        let waits = Mutex<[LeaseWait]>([])
        var options = LeaseOptions()
        options.onWait = { wait in waits.withLock { $0.append(wait) } }
        let held = try await store.lease("site", options)
        options.patience = .milliseconds(2_500)
        let error = await #expect(throws: StoreError.self) { _ = try await store.lease("site", options) }
        let wait = try #require(waits.withLock { $0.first })
        let holder = try #require(wait.holder)
        #expect(holder == VolumeStore.Options().processName && wait.place == error?.place)
        #expect(wait.limit > .zero && wait.limit <= .milliseconds(1_500))
        #expect(waits.withLock { $0.count } == 1 && error?.reason.contains("held by \(holder);") == true)
        await held.release()
    }

    @Test("A write under a lease is refused once the lease is lost", arguments: Driver.allCases)
    func fencing(_ driver: Driver) async throws {
        let (store, owner) = try driver.open()
        defer { withExtendedLifetime(owner) { store.close() } }
        let key: StoreKey = "certs/site"
        var options = LeaseOptions(guards: [key])
        options.notBelow = 6
        let first = try await store.lease("site", options)
        #expect(first.epoch == 7)
        #expect(try await store.write(key, .create(bytes("1")), under: first) == 1)
        #expect(try await store.put(key, bytes("2"), under: first) == 2)
        await first.release()
        let second = try await store.lease("site", LeaseOptions(guards: [key]))
        #expect(second.epoch == 8)
        for change in [ValueWrite.replace(2, bytes("3")), .remove(nil)] {
            #expect(await code { try await store.write(key, change, under: first) } == .fenced)
        }
        #expect(try await store.write(key, .replace(2, bytes("4")), under: second) == 3)
        #expect(try await store.read(key).bytes == bytes("4"))
        await second.release()
    }

    @Test("A closed store fails every call at once", arguments: Driver.allCases)
    func closed(_ driver: Driver) async throws {
        let (store, owner) = try driver.open()
        let journal = try await store.join(JoinOptions(incarnation: { randomIncarnation() }, info: { _ in [1] }))
        withExtendedLifetime(owner) { store.close() }
        #expect(await code { try await store.write("agents/a", .create([1])) } == .closed)
        #expect(await code { try await journal.flush() } == .closed)
        #expect(await code { _ = try await store.lease("a", LeaseOptions()) } == .closed)
    }
}

extension WatchedChange {
    func isVersion(_ version: UInt64) -> Bool {
        if case .value(let stored) = content { stored.version == version } else { false }
    }
}
