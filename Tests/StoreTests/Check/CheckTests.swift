import Foundation
import Glibc
import NIOCore
import Store
import Synchronization
import TestSupport
import Testing

@Suite("Checking a volume")
struct CheckTests {
    let scratch = ScratchFolder()

    @Test("A healthy store has no problems and no remarks")
    func good() async throws {
        let volume = try scratch.volume()
        let cluster = try await volume.openCluster()
        try volume.write("agents/a", .create([1]))
        let inspection = volume.inspect()
        #expect(inspection.problems.isEmpty && inspection.refused.isEmpty && inspection.remarks.isEmpty)
        #expect(try volume.strayKeys(cluster).isEmpty)
        #expect(volume.selfTest().isUsable)
    }

    @Test("Links, pipes, open modes and foreign files are reported with their paths")
    func bad() throws {
        let volume = try scratch.volume()
        try volume.write("agents/open", .create([1]))
        chmod(scratch.file("v2/agents/open/1.json"), 0o644)
        symlink("/etc", scratch.file("v2/agents/link"))
        mkfifo(scratch.file("v2/agents/pipe"), 0o600)
        mkdir(scratch.file("v2/lost+found"), 0o700)
        chmod(scratch.file("v2/certs"), 0o2770)
        rmdir(scratch.file("v2/acme"))
        symlink(scratch.file("v2/certs"), scratch.file("v2/acme"))
        let inspection = volume.inspect()
        func refused(_ path: String, _ words: String) -> Bool {
            inspection.refused.contains { $0.place == scratch.file(path) && $0.reason.contains(words) }
        }
        #expect(refused("v2/agents/open/1.json", "chmod 600"))
        #expect(refused("v2/agents/link", "symbolic link"))
        #expect(refused("v2/agents/pipe", "delete it with: rm \(scratch.file("v2/agents/pipe"))"))
        #expect(inspection.refused.count == 3)
        // The whole store depends on this one.
        let place = scratch.file("v2/acme")
        #expect(inspection.problems.map(\.place) == [place] && inspection.problems[0].reason.contains("symbolic link"))
        #expect(inspection.remarks.contains { $0.contains("lost+found") })
        #expect(inspection.remarks.contains { $0.contains("v2/certs: mode 2770") })
    }

    @Test("A file in the place of a folder of leases is named by the check and by the call that needs the lease")
    func leaseFolder() async throws {
        let volume = try scratch.volume()
        let store = VolumeStore(volume: volume)
        defer { store.close() }
        let file = scratch.write("v2/locks/certs", "")
        let refusal = StoreError(FileFault(.list, file, ENOTDIR)).description
        #expect(volume.inspect().refused.map(\.description) == [refusal])
        #expect(volume.leases(until: .distantFuture).isComplete)
        let error = await #expect(throws: StoreError.self) { _ = try await store.lease("certs/a", LeaseOptions()) }
        #expect(error?.description == refusal)
        unlink(file)
        try await store.lease("certs/a", LeaseOptions()).release()
        // The folder of all leases, which a start refuses as well.
        chmod(scratch.file("v2/locks"), 0o755)
        #expect(volume.inspect().problems.map(\.place) == [scratch.file("v2/locks")])
        #expect(volume.leases(until: .distantFuture).isComplete)
    }

    @Test("Hints that are refused are named by the check, and keep no value from a watch")
    func refusedHints() async throws {
        let store = VolumeStore(volume: try scratch.volume())
        defer { store.close() }
        try await store.write("agents/a", .create(bytes("one")))
        #expect(chmod(scratch.file("v2/agents/.changes"), 0o755) == 0)
        let refused = store.volume.inspect().refused
        #expect(refused.count == 1 && refused[0].place.hasSuffix("/agents/.changes"))
        let values = WatchedValues<StoredValue, StoreError> { _, stored in stored }
        values.watch(store, .below("agents")) { _ in }
        #expect(try await values.waitUntilComplete(patience: .seconds(20)))
        #expect(values["a"]?.version == 1)
        #expect(store.diagnostics.watchFailure?.code == .refused)
        try await store.write("agents/a", .put(bytes("two")))
        try await eventually { values["a"]?.version == 2 }
    }

    @Test("A full volume is one problem of the self-test; what follows is skipped")
    func full() throws {
        let volume = try scratch.volume()
        let files = HangingFileSystem(files: volume.files)
        files.gate.fill(true)
        let problems = Volume(files: files).selfTest().problems
        #expect(problems.count == 1 && problems[0].contains("no space is left"), "\(problems)")
    }

    @Test("Many foreign files are reported as a few lines and a count")
    func many() throws {
        let volume = try scratch.volume()
        for number in 0..<50 { mkdir(scratch.file("v2/foreign\(number)"), 0o700) }
        let remarks = volume.inspect().remarks
        #expect(remarks.count == 11 && remarks.last?.contains("40 more") == true)
    }

    @Test("A volume that answers slowly ends the inspection, not the check")
    func slow() throws {
        let volume = try scratch.volume()
        for number in 0..<20 { try volume.write(try StoreKey("agents/a\(number)"), .create([1])) }
        let clock = Mutex(NIODeadline.uptimeNanoseconds(0))
        let slow = Volume(
            files: volume.files,
            now: {
                clock.withLock { now in
                    now = now + .milliseconds(100)
                    return now
                }
            }
        )
        let inspection = slow.inspect(until: .uptimeNanoseconds(0) + .seconds(1))
        #expect(inspection.problems.isEmpty && inspection.remarks.count == 1)
        #expect(inspection.remarks.first?.contains("names were inspected in the time for it") == true)
    }

    @Test("Leases that were not released are listed with their holders, at any depth of names")
    func leases() async throws {
        let volume = try scratch.volume()
        #expect(volume.leases(until: .distantFuture).found.isEmpty)
        let store = VolumeStore(volume: volume)
        defer { store.close() }
        var options = LeaseOptions()
        options.timeToLive = .seconds(9)
        let held = try await store.lease("certs/app.test", options)
        try await store.lease("other", options).release()
        let (found, isComplete) = volume.leases(until: .distantFuture)
        #expect(isComplete && found.map(\.name) == ["certs/app.test"] && found.first?.timeToLive == .seconds(9))
        #expect(found.first?.holder.contains("\(getpid())") == true)
        #expect(!volume.leases(until: .uptimeNanoseconds(0)).isComplete)
        await held.release()
        #expect(volume.leases(until: .distantFuture).found.isEmpty)
    }

    @Test("Every duration is measured often enough to have a median, and no file is left behind")
    func timings() throws {
        let volume = try scratch.volume()
        let timings = try volume.timings(rounds: 10)
        #expect(timings.map(\.operation) == ["create", "rename", "link", "fsync", "fsync of a folder", "list"])
        #expect(timings.allSatisfy { $0.minimum <= $0.median && $0.median <= $0.maximum && $0.maximum > .zero })
        #expect(scratch.names("v2/tmp").isEmpty)
    }

    @Test("The type of the volume is reported, and the reasons why nothing can be written")
    func facts() throws {
        let facts = try VolumeFacts(of: scratch.path)
        #expect(!facts.type.isEmpty && facts.bytes > 0)
        #expect(try VolumeFacts(of: "/proc").type.hasPrefix("0x"))
        #expect(throws: FileFault.self) { try VolumeFacts(of: scratch.file("nothing")) }
        var full = facts
        full.freeBytes = 0
        full.freeInodes = 0
        full.isReadOnly = false
        #expect(full.problems.count == 2)
        full.isReadOnly = true
        #expect(full.problems.contains { $0.contains("read-only") })
        full.type = "tmpfs"
        #expect(full.remarks.contains { $0.contains("memory") })
    }

    @Test("A replica is live if its heartbeat moves between two reads")
    func liveness() {
        let replicas = (0..<6).map { _ in randomIncarnation() }.sorted()
        func beat(_ replica: Incarnation, _ sequence: UInt64, _ state: Heartbeat.State = .active) -> Heartbeat {
            Heartbeat(incarnation: replica, sequence: sequence, state: state)
        }
        let before = [beat(replicas[0], 5), beat(replicas[1], 5), beat(replicas[2], 5), beat(replicas[4], 5)]
        let after = [beat(replicas[0], 8), beat(replicas[1], 5), beat(replicas[2], 6, .left), beat(replicas[3], 1)]
        func readings(_ beats: [Heartbeat]) -> [Incarnation: ReplicaLiveness.Reading] {
            Dictionary(uniqueKeysWithValues: beats.map { ($0.incarnation, .success($0)) })
        }
        var second = readings(after)
        second[replicas[4]] = .failure(StoreError(.transient, "hb", "EIO"))
        second[replicas[5]] = .failure(StoreError(.corrupt, "hb", "no valid slot"))
        let liveness = ReplicaLiveness.compare(readings(before), second)
        #expect(liveness.map(\.replica) == replicas)
        #expect(liveness.map(\.isLive) == [true, false, false, true, true, false])
    }

    @Test("Operations are reported with their durations")
    func operations() async throws {
        let volume = try scratch.volume()
        let store = VolumeStore(volume: volume)
        defer { store.close() }
        let seen = Mutex<[StoreOperation]>([])
        store.onOperation { operation, duration in
            if duration > .zero { seen.withLock { $0.append(operation) } }
        }
        try await store.write("agents/a", .create([1]))
        _ = try await store.read("agents/a")
        _ = try await store.list("agents")
        let lease = try await store.lease("x", LeaseOptions(guards: ["certs/x"]))
        await lease.release()
        let name = randomIncarnation()
        _ = try await store.join(JoinOptions(incarnation: { name }, info: { _ in [1] }))
        try await eventually { Set(seen.withLock { $0 }) == Set(StoreOperation.allCases) }
    }

    @Test("Opening without founding returns an existing cluster or fails with notFound")
    func openFounded() async throws {
        let path = scratch.file("v2")
        #expect(await code { _ = try await VolumeStore.openFounded(path: path, mounted: nil) } == .notFound)
        #expect(scratch.names(".").isEmpty)
        let founded = try await VolumeStore.open(path: path, mounted: nil)
        founded.store.close()
        let found = try await VolumeStore.openFounded(path: path, mounted: nil)
        found.store.close()
        #expect(found.cluster == founded.cluster)
    }
}
