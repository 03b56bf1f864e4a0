import Foundation
import NIOCore
import Store
import Synchronization
import TestSupport
import Testing

@Suite("A volume of another cluster at the path", .timeLimit(.minutes(1)))
struct ForeignVolumeTests {
    private let scratch = ScratchFolder()

    private func open() async throws -> VolumeStore {
        try await VolumeStore.open(path: scratch.file("v2"), mounted: nil).store
    }

    private func member(of store: VolumeStore) async throws -> any StoreMember {
        try await store.join(JoinOptions(incarnation: { randomIncarnation() }, info: { _ in [1] }))
    }

    private func mount(_ name: String, unmounting other: String) throws {
        let manager = FileManager.default
        try manager.moveItem(atPath: scratch.file("v2"), toPath: scratch.file(other))
        if manager.fileExists(atPath: scratch.file(name)) {
            try manager.moveItem(atPath: scratch.file(name), toPath: scratch.file("v2"))
        }
    }

    @Test(
        "Nothing of it is believed or deleted: no value, no removal, no departure; the own volume continues when back"
    )
    func foreign() async throws {
        let (store, other) = (try await open(), try await open())
        defer { for store in [store, other] { store.close() } }
        let members = [try await member(of: store), try await member(of: other)]
        defer { withExtendedLifetime(members) {} }
        for name in ["a", "b", "c"] { try await store.write(StoreKey("agents/\(name)"), .create(bytes("own"))) }
        let gone = Mutex<[Incarnation]>([])
        let listed = Atomic(false)
        let observation = store.observeMembers { event in
            if case .gone(let member) = event { gone.withLock { $0.append(member) } }
            if case .listed = event { listed.store(true, ordering: .relaxed) }
        }
        defer { withExtendedLifetime(observation) {} }
        let changes = Mutex<[WatchedChange]>([])
        let failure = Mutex<StoreError?>(nil)
        let watch = store.watch(.below("agents")) { batch in
            changes.withLock { $0 += batch.changes }
            failure.withLock { $0 = batch.failure }
            return []
        }
        defer { watch.cancel() }
        try await eventually { changes.withLock { $0.count } == 3 && listed.load(ordering: .relaxed) }

        try mount("foreign", unmounting: "own")
        let foreign = try await open()
        // A newer version, the same version, no folder, and an unknown key.
        try await foreign.write("agents/a", .create(bytes("foreign")))
        try await foreign.write("agents/a", .replace(1, bytes("foreign")))
        try await foreign.write("agents/b", .create(bytes("foreign")))
        try await foreign.write("agents/d", .create(bytes("foreign")))
        try await foreign.write("agents/e", .create(bytes("foreign")))
        try await foreign.write("agents/e", .remove(1))
        foreign.close()
        try await eventually { failure.withLock { $0?.code } == .gone && store.state == .gone }
        let collector = GarbageCollector(volume: store.volume, disposable: ["agents"])
        #expect(try collector.sweep(now: .now()) > 0)
        #expect(scratch.names("v2/agents").contains("e"))

        try mount("own", unmounting: "foreign")
        try await eventually { failure.withLock { $0 } == nil && store.state == .healthy }
        try await other.write("agents/b", .replace(1, bytes("own")))
        try await eventually { changes.withLock { $0.count } == 4 }
        #expect(
            changes.withLock { $0.last }
                == WatchedChange(key: "agents/b", content: .value(StoredValue(bytes: bytes("own"), version: 2)))
        )
        #expect(!gone.withLock { $0.contains(members[1].incarnation) })
    }

    @Test("The verification before each write takes the same room on the stack, however many there were")
    func stack() async throws {
        let files = StackProbe(files: MemoryFileSystem())
        let volume = Volume(files: files)
        try volume.prepare()
        volume.pin(to: try await volume.openCluster())
        func write() throws {
            try volume.files.unlink(volume.writeTemporary([1], durable: false))
        }
        try write()
        let first = files.address.value.exchange(0, ordering: .relaxed)
        for _ in 0..<1_000 { try write() }
        let last = files.address.value.load(ordering: .relaxed)
        // A page for what the optimiser does differently between the two calls.
        #expect(first > 0 && last > 0 && last + 4_096 > first)
    }
}

/// A file system that records where on the stack its last call of `status` was.
private struct StackProbe: InterceptedFileSystem {
    final class Address: Sendable {
        let value = Atomic<UInt>(0)
    }

    let files: any FileSystem
    let address = Address()

    func intercept(_ call: FileFault.Call, _ path: String, _ access: FileAccess?) {
        guard call == .stat else { return }
        var local: UInt8 = 0
        let here = withUnsafeMutablePointer(to: &local) { UInt(bitPattern: $0) }
        address.value.store(here, ordering: .relaxed)
    }
}
