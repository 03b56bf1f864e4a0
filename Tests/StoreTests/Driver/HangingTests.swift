import NIOCore
import Store
import TestSupport
import Testing

/// No caller waits longer than its limit for a volume that hangs, and none waits for a store that was closed.
@Suite("A volume that hangs", .timeLimit(.minutes(1)))
struct HangingTests {
    let scratch = ScratchFolder()
    let store: VolumeStore
    let gate: HangingFileSystem.Gate

    init() throws {
        _ = try scratch.volume()
        let files = HangingFileSystem(files: try PosixFileSystem(path: scratch.file("v2"), creating: false))
        gate = files.gate
        store = VolumeStore(volume: Volume(files: files))
    }

    private func journal() async throws -> any StoreMember {
        try await store.join(JoinOptions(incarnation: { randomIncarnation() }, info: { _ in [1] }))
    }

    @Test("A full volume is detected, with the failure, although only heartbeats are written, and so is its recovery")
    func full() async throws {
        let journal = try await journal()
        defer { withExtendedLifetime(journal) { store.close() } }
        try await journal.flush()
        #expect(store.state == .healthy)
        gate.fill(true)
        try await eventually { store.state == .full }
        let failure = store.diagnostics.failure
        #expect(failure?.code == .full)
        #expect(failure?.reason.hasSuffix("; the store counts as full until at least 1088 KiB are free") == true)
        gate.fill(false)
        try await eventually { store.state == .healthy }
        #expect(store.diagnostics.failure == nil)
    }

    @Test("Calls fail with the reason while there is no thread, and succeed when there is one")
    func noThreads() async throws {
        let (hasThreads, refusals) = (Observed(false), Observed(0))
        var options = VolumeStore.Options()
        let start = options.threadStarter
        options.threadStarter = { name, body in
            if hasThreads.value, start(name, body) { return true }
            refusals.update { $0 += 1 }
            return false
        }
        let opening = options
        #expect(
            await code { _ = try await VolumeStore.open(path: scratch.file("v1"), mounted: nil, options: opening) }
                == .busy
        )
        let limited = VolumeStore(volume: store.volume, options: options)
        defer { limited.close() }
        #expect(await code { _ = try await limited.read("a") } == .busy)
        hasThreads.update { $0 = true }
        #expect(await code { _ = try await limited.read("a") } == .notFound)
        // The usual readers hang, and no further one can be started until there are threads again.
        gate.hang(true)
        hasThreads.update { $0 = false }
        let before = refusals.value
        let reads = (0..<4).map { _ in Task { await code { _ = try await limited.read("a") } } }
        try await refusals.wait { $0 > before + 1 }
        gate.hang(false)
        for read in reads { #expect(await read.value == .notFound) }
    }

    @Test("Removed keys are collected while the folder of another hangs, which follows when it answers")
    func collector() async throws {
        for name in ["a", "b", "c", "d"] {
            let key = try StoreKey("acme/challenges/\(name)")
            try store.volume.write(key, .create([1]))
            try store.volume.write(key, .remove(nil))
        }
        func left() -> [String] { scratch.names("v2/acme/challenges").filter { !$0.hasPrefix(".") } }
        #expect(left() == ["a", "b", "c", "d"])
        gate.hang(true, at: "acme/challenges/a", "acme/challenges/c")
        var options = VolumeStore.Options()
        options.sweepInterval = .milliseconds(20)
        options.callDeadline = .milliseconds(100)
        let collecting = VolumeStore(volume: store.volume, options: options)
        defer { collecting.close() }
        defer { gate.hang(false) }
        try await eventually("the keys that answer are collected") { left() == ["a", "c"] }
        gate.hang(false)
        try await eventually("the others follow") { left() == [] }
    }

    @Test("A flush waits no longer than its limit")
    func flush() async throws {
        let journal = try await journal()
        try await journal.flush()
        gate.hang(true)
        defer { gate.hang(false) }
        journal.update { $0.state = .left }
        let patient = Task { await code { try await journal.flush(within: .minutes(1)) } }
        #expect(await code { try await journal.flush(within: .milliseconds(200)) } == .stalled)
        // The other one still waits.
        store.close()
        #expect(await patient.value == .closed)
    }

    @Test("Rows and flushes that wait for the volume are limited, and the refused ones say so")
    func limits() async throws {
        let journal = try await journal()
        try await journal.flush()
        gate.hang(true)
        defer { gate.hang(false) }
        var count: UInt32 = 0
        func next() -> [UInt8] {
            count += 1
            return withUnsafeBytes(of: count) { Array($0) }
        }
        // The first job may have taken some of them.
        while count < 600_000, (try? journal.put(key: next(), value: [])) != nil {}
        #expect(code { try journal.put(key: next(), value: []) } == .full)
        #expect(code { try journal.remove(key: next()) } == .full)
        // The last one that was accepted.
        count -= 4
        try journal.remove(key: next())
        let store = store
        await withTaskGroup(of: StoreError.Code?.self) { group in
            for _ in 0..<2_100 { group.addTask { await code { try await journal.flush(within: .minutes(1)) } } }
            #expect(await group.next() == .busy)
            store.close()
            for await code in group { #expect(code == .closed || code == .busy) }
        }
    }

    @Test("Closing ends every wait: in the queue, in a job that hangs, for a lease")
    func closing() async throws {
        let journal = try await journal()
        let held = try await store.lease("a", LeaseOptions())
        gate.hang(true)
        defer { gate.hang(false) }
        // A change, so that the flush has something to wait for.
        journal.update { $0.sessions = 7 }
        let agents: StoreKey = "agents"
        let (store, isWaiting) = (store, NIODeadline.now() + .milliseconds(500))
        let codes = await withTaskGroup(of: StoreError.Code?.self) { group in
            // One job per reader hangs, and the other jobs wait in the queue.
            for number in 0..<40 {
                group.addTask { await code { _ = try await store.read(agents.child("a\(number)")) } }
            }
            for _ in 0..<3 { group.addTask { await code { try await journal.flush() } } }
            group.addTask { await code { _ = try await store.lease("a", LeaseOptions()) } }
            _ = try? await eventually { NIODeadline.now() > isWaiting }
            store.close()
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(codes == Array(repeating: StoreError.Code.closed, count: 44))
        withExtendedLifetime(held) {}
    }

    @Test("A value that hangs holds up no other, and is named; it follows when it answers")
    func hangingValue() async throws {
        let journal = try await journal()
        defer { withExtendedLifetime(journal) { store.close() } }
        for number in 0..<200 { try await store.write(StoreKey("agents/k\(number)"), .create([UInt8(number)])) }
        gate.hang(true, at: "agents/k7/1.json")
        defer { gate.hang(false) }
        let values = WatchedValues<UInt8, StoreError> { _, stored in stored.map { $0.bytes[0] } }
        values.watch(store, .below("agents")) { _ in }
        #expect(try await values.waitUntilComplete(patience: .seconds(10)))
        #expect((0..<200).allSatisfy { values["k\($0)"] == ($0 == 7 ? nil : UInt8($0)) })
        try await eventually { values.entries["k7"]?.problem?.code == .stalled }
        #expect(gate.waitingCount == 1)
        gate.hang(false)
        try await eventually { values["k7"] == 7 && values.entries["k7"]?.problem == nil }
    }

    @Test(
        "A folder that hangs, of a key, a prefix or its hints, delays no other key, and few threads wait for it",
        arguments: ["agents/k7", "agents", "agents/.changes"]
    )
    func hangingFolder(_ folder: String) async throws {
        let journal = try await journal()
        defer { withExtendedLifetime(journal) { store.close() } }
        let other = try scratch.volume()
        for number in 0..<40 { try other.write(StoreKey("agents/k\(number)"), .create([1])) }
        try other.write("certs/a", .create([1]))
        let agents = WatchedValues<StoredValue, StoreError> { $1 }
        let certificates = WatchedValues<StoredValue, StoreError> { $1 }
        agents.watch(store, .below("agents")) { _ in }
        certificates.watch(store, .below("certs")) { _ in }
        for values in [agents, certificates] { #expect(try await values.waitUntilComplete(patience: .seconds(10))) }
        gate.hang(true, at: folder)
        defer { gate.hang(false) }
        try await eventually { gate.waitingCount == 1 }
        for version in 1...4 as ClosedRange<UInt64> {
            for key in ["agents/k8", "agents/k39", "certs/a"] as [StoreKey] {
                try other.write(key, .replace(version, [2]))
            }
            try await eventually("version \(version + 1)") {
                [agents["k8"], agents["k39"], certificates["a"]].allSatisfy { $0?.version == version + 1 }
            }
        }
        #expect(gate.waitingCount == 1)
        gate.hang(false)
        try other.write("agents/k7", .replace(1, [2]))
        try await eventually { agents["k7"]?.version == 2 && agents.entries["k7"]?.problem == nil }
    }

    @Test("When four calls hang a watch reads no more: each key has its problem, and the failure of the watch says so")
    func hungLimit() async throws {
        let journal = try await journal()
        defer { withExtendedLifetime(journal) { store.close() } }
        let other = try scratch.volume()
        let names = (0..<6).map { "k\($0)" }
        let hanging = names.prefix(4)
        for name in names { try other.write(StoreKey("agents/\(name)"), .create([1])) }
        let values = WatchedValues<StoredValue, StoreError> { $1 }
        let failure = Observed<StoreError?>(nil)
        let watch = store.watch(.below("agents")) { batch in
            failure.update { $0 = batch.failure }
            return values.receive(batch)
        }
        defer { watch.cancel() }
        try await values.waitUntilComplete(patience: .seconds(10))
        gate.hang(true, at: "agents/k0", "agents/k1", "agents/k2", "agents/k3")
        defer { gate.hang(false) }
        for name in hanging { try other.write(StoreKey("agents/\(name)"), .replace(1, [2])) }
        try await eventually { hanging.allSatisfy { values.entries[$0]?.problem?.code == .stalled } }
        try await eventually { failure.value?.code == .stalled }
        let reported = try #require(failure.value)
        #expect(reported.place.hasSuffix("agents/k0") && reported.reason.contains("3 more"))
        #expect(store.diagnostics.watchFailure == reported && store.state == .healthy)
        gate.hang(false)
        try await eventually { hanging.allSatisfy { values[$0]?.version == 2 } && failure.value == nil }
        #expect(values.entries.values.allSatisfy { $0.problem == nil } && store.diagnostics.watchFailure == nil)
    }

    /// Another store on the same volume, which the gate applies to as well.
    private func store(_ change: (inout VolumeStore.Options) -> Void) -> VolumeStore {
        var options = VolumeStore.Options()
        change(&options)
        return VolumeStore(volume: store.volume, options: options)
    }

    /// The calls whose file or folder hangs.
    enum RepeatedCall: String, CaseIterable {
        case read, earlier, list, readAll, readPart, clusterKey, lease

        var hangingPath: String {
            switch self {
            case .read, .earlier: "agents/a"
            case .list, .readAll: "agents"
            case .readPart: "agents/a/1.json"
            case .clusterKey: "keys/0123456789abcdef"
            case .lease: "locks/a"
            }
        }

        func perform(on store: VolumeStore) async throws {
            switch self {
            case .read: _ = try await store.read("agents/a")
            case .earlier: _ = try await store.earlier("agents/a", within: .seconds(5))
            case .list: _ = try await store.list("agents")
            case .readAll, .readPart: _ = try await store.readAll("agents")
            case .clusterKey: _ = try await store.clusterKey("0123456789abcdef", namedBy: "cluster.json/1")
            case .lease:
                var options = LeaseOptions()
                (options.timeToLive, options.patience) = (.milliseconds(30), .milliseconds(20))
                try await store.lease("a", options).release()
            }
        }
    }

    @Test("A call that is repeated keeps one thread however long its file hangs", arguments: RepeatedCall.allCases)
    func repeatedCalls(_ call: RepeatedCall) async throws {
        defer { store.close() }
        for value in ["agents/a", "certs/a"] as [StoreKey] { try await store.write(value, .create([1])) }
        try await store.lease("a", LeaseOptions()).release()
        let impatient = self.store { $0.callDeadline = .seconds(2) }
        defer { impatient.close() }
        gate.hang(true, at: call.hangingPath)
        defer { gate.hang(false) }
        for _ in 1...100 {
            #expect(await code { try await call.perform(on: impatient) } == (call == .lease ? .transient : .stalled))
            try #require(gate.waitingCount == 1)
            #expect(try await impatient.readAll("certs").count == 1)
        }
        gate.hang(false)
        try await eventually { await ![.stalled, .transient].contains(code { try await call.perform(on: impatient) }) }
    }

    @Test("A wait for a lease that cannot be read ends with the reason, and not with a holder")
    func unreadableLease() async throws {
        defer { store.close() }
        let held = try await store.lease("a", LeaseOptions())
        let impatient = self.store { $0.callDeadline = .milliseconds(100) }
        defer { impatient.close() }
        var options = LeaseOptions()
        (options.timeToLive, options.patience) = (.milliseconds(300), .milliseconds(250))
        func failure() async -> StoreError? {
            do throws(StoreError) {
                try await impatient.lease("a", options).release()
                return nil
            } catch {
                return error
            }
        }
        try await eventually { await failure()?.reason.contains("is held by") == true }
        gate.hang(true, at: "locks/a")
        defer { gate.hang(false) }
        let hanging = try #require(await failure())
        #expect(hanging.code == .transient && hanging.place.hasSuffix("locks/a"))
        #expect(hanging.reason.contains("answer"))
        gate.hang(false)
        try await eventually { await failure()?.reason.contains("is held by") == true }
        withExtendedLifetime(held) {}
    }

    @Test("A member that is archived during a read that hangs has no event after it is gone")
    func goneMember() async throws {
        defer { store.close() }
        let peers = try [1, 2].map { _ in VolumeStore(volume: try scratch.volume()) }
        defer { for peer in peers { peer.close() } }
        let options = JoinOptions(incarnation: { randomIncarnation() }, info: { _ in [1] })
        let (left, other) = (try await peers[0].join(options), try await peers[1].join(options))
        let (name, present) = (left.incarnation, other.incarnation)
        let (events, beats) = (Observed<[String]>([]), Observed(0))
        let observation = store.observeMembers { event in
            switch event {
            case .status(present, _, _, _): beats.update { $0 += 1 }
            case .joined(name, _): events.update { $0.append("joined") }
            case .status(name, _, _, _): events.update { $0.append("status") }
            case .problem(name, let problem): events.update { $0.append("problem \(problem?.reason ?? "over")") }
            case .gone(name): events.update { $0.append("gone") }
            default: break
            }
        }
        defer { withExtendedLifetime(observation) {} }
        try await events.wait { $0.contains("status") }
        gate.hang(true, at: "replicas/\(name)/hb")
        defer { gate.hang(false) }
        try await events.wait { $0.last == "problem does not answer" }
        peers[0].close()
        try await peers[1].archive(name)
        try await events.wait { $0.last == "gone" }
        gate.hang(false)
        // The read that hung ends before the next ones of the other member.
        let before = beats.value
        try await beats.wait { $0 > before + 2 }
        #expect(events.value.last == "gone")
    }

    @Test("Calls for ever new keys keep four threads if the keys of their prefix hang")
    func newKeys() async throws {
        defer { store.close() }
        try await store.write("certs/a", .create([1]))
        let patient = self.store { $0.readers = 8 }
        defer { patient.close() }
        gate.hang(true, at: "agents/")
        defer { gate.hang(false) }
        for number in 0..<100 {
            let key = try StoreKey("agents/k\(number)")
            #expect(await code { _ = try await patient.read(key, within: .milliseconds(20)) } == .stalled)
            #expect(try await patient.read("certs/a").bytes == [1])
        }
        #expect(gate.waitingCount == 4)
    }

    @Test("While the bulk threads hang, single values are read and changes are delivered")
    func bulk() async throws {
        defer { store.close() }
        try await store.write("acme/a", .create([1]))
        for number in 0..<40 { try await store.write(StoreKey("agents/k\(number)"), .create([UInt8(number)])) }
        gate.hang(true, at: "agents/k7/1.json")
        defer { gate.hang(false) }
        var options = VolumeStore.Options()
        options.bulkThreadsAtMost = 1
        let other = VolumeStore(volume: store.volume, options: options)
        defer { other.close() }
        let values = WatchedValues<UInt8, StoreError> { _, stored in stored.map { $0.bytes[0] } }
        values.watch(other, .below("agents")) { _ in }
        try await eventually { gate.waitingCount == 1 }
        #expect(try await other.read("acme/a").bytes == [1])
        try await other.write("agents/new", .create([9]))
        try await eventually { values["new"] == 9 }
    }
}
