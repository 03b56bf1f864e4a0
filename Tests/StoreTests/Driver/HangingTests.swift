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

    @Test("A full volume is detected although only heartbeats are written, and so is its recovery")
    func full() async throws {
        let journal = try await journal()
        defer { withExtendedLifetime(journal) { store.close() } }
        try await journal.flush()
        #expect(store.state == .healthy)
        gate.fill(true)
        try await eventually { store.state == .full }
        gate.fill(false)
        try await eventually { store.state == .healthy }
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

    @Test("A flush waits no longer than its limit")
    func flush() async throws {
        let journal = try await journal()
        try await journal.flush()
        gate.hang(true)
        defer { gate.hang(false) }
        journal.update { $0.state = .left }
        let began = NIODeadline.now()
        #expect(await code { try await journal.flush(within: .milliseconds(200)) } == .stalled)
        #expect(NIODeadline.now() - began < .seconds(3))
        store.close()
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

    @Test("A value that hangs holds up few others, and those follow when it answers")
    func hangingValue() async throws {
        defer { store.close() }
        for number in 0..<200 { try await store.write(StoreKey("agents/k\(number)"), .create([UInt8(number)])) }
        gate.hang(true, at: "agents/k7/1.json")
        defer { gate.hang(false) }
        let values = WatchedValues<UInt8, StoreError> { _, stored in stored.map { $0.bytes[0] } }
        values.watch(store, .below("agents")) { _ in }
        #expect(try await !values.waitUntilComplete(patience: .seconds(1)))
        #expect(values["k7"] == nil && values.entries.count >= 184)
        #expect(gate.waitingCount == 1)
        gate.hang(false)
        #expect(try await values.waitUntilComplete(patience: .seconds(10)))
        #expect((0..<200).allSatisfy { values["k\($0)"] == UInt8($0) })
    }
}
