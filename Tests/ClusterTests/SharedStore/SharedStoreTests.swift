import Cluster
import Foundation
import Glibc
import Store
import Synchronization
import TestSupport
import Testing

@Suite("The store of a gateway")
struct SharedStoreTests {
    private let scratch = ScratchFolder()

    @Test("A gateway keeps its cluster when another cluster appears at the path, and reports it once")
    func foreign() async throws {
        let folder = scratch.file("store")
        let shared = try await SharedStore.open(SharedStoreConfiguration(path: folder))
        defer { shared.close() }
        let before = shared.cluster
        let problems = Mutex<[StoreError?]>([])
        let running = Task { await shared.run { problem in problems.withLock { $0.append(problem) } } }
        defer { running.cancel() }
        // The volume is unmounted, and another process creates a cluster in the empty mount point.
        #expect(rename(folder, scratch.file("away")) == 0)
        let other = try await SharedStore.open(SharedStoreConfiguration(path: folder))
        #expect(other.cluster.id != before.id)
        other.close()
        try await eventually("the other cluster is noticed") {
            problems.withLock { $0.contains { $0?.code == .foreign } }
        }
        #expect(shared.cluster == before)
        #expect(problems.withLock { $0.filter { $0?.code == .foreign }.count } == 1)
        #expect(problems.withLock { $0.last??.reason.contains(before.id) } == true)
    }

    @Test("A key that is damaged or lost is reported once and stays in use, and its repair is reported, too")
    func damagedKeys() async throws {
        let text = String(repeating: "k", count: 40)
        var mounted = SharedStoreConfiguration(path: scratch.file("mounted"))
        mounted.clusterKeyFile = scratch.write("key", text)
        let own = SharedStoreConfiguration(path: scratch.file("own"))
        for configuration in [mounted, own] {
            let shared = try await SharedStore.open(configuration)
            defer { shared.close() }
            let before = shared.cluster
            let file = configuration.clusterKeyFile ?? "\(own.folder)/keys/\(before.keyring.signing.id)"
            let good = try #require(FileManager.default.contents(atPath: file))
            let reports = Mutex<[StoreError?]>([])
            let running = Task {
                await shared.run(verifyingAfter: 1) { report in reports.withLock { $0.append(report) } }
            }
            defer { running.cancel() }
            for (damage, code) in [(Data("x\n".utf8), StoreError.Code.corrupt), (Data(), .corrupt)] {
                try damage.write(to: URL(fileURLWithPath: file))
                try await eventually("the damage is reported") { reports.withLock { $0.last??.code == code } }
                try good.write(to: URL(fileURLWithPath: file))
                try await eventually("the repair is reported") {
                    reports.withLock { $0.last.map { $0 == nil } == true }
                }
            }
            let all = reports.withLock { $0 }
            #expect(zip(all, all.dropFirst()).allSatisfy { $0 != $1 })
            #expect(shared.cluster == before)
        }
    }

    @Test("An old key that is lost is reported and stays in use")
    func lostKey() async throws {
        let configuration = SharedStoreConfiguration(path: scratch.file("store"))
        let shared = try await SharedStore.open(configuration)
        defer { shared.close() }
        let key = ClusterKey.generate()
        try await shared.store.createClusterKey(key)
        try await shared.store.replace(try shared.cluster.adding(key))
        let reports = Mutex<[StoreError?]>([])
        let running = Task {
            await shared.run(verifyingAfter: 1) { report in reports.withLock { $0.append(report) } }
        }
        defer { running.cancel() }
        try await eventually("both keys are in use") { shared.keyring.keys.count == 2 }
        let file = "\(configuration.folder)/keys/\(key.id)"
        #expect(rename(file, scratch.file("away")) == 0)
        try await eventually("the loss is reported") { reports.withLock { $0.last??.code == .notFound } }
        #expect(shared.keyring.keys.count == 2)
        #expect(rename(scratch.file("away"), file) == 0)
        try await eventually("the repair is reported") { reports.withLock { $0.last.map { $0 == nil } == true } }
    }

    @Test("The first open founds a cluster and says so; with store.cluster none is founded and no other is used")
    func founding() async throws {
        func code(_ configuration: SharedStoreConfiguration, _ text: String) async -> StoreError.Code? {
            let error = await #expect(throws: StoreError.self) { try await SharedStore.open(configuration).close() }
            #expect(error?.reason.contains(text) == true, "\(error?.description ?? "")")
            return error?.code
        }
        var configuration = SharedStoreConfiguration(path: scratch.file("store"))
        configuration.cluster = String(repeating: "0", count: 32)
        #expect(await code(configuration, "store.cluster names 0000") == .notFound)
        #expect(scratch.names() == [])
        configuration.cluster = nil
        let founder = try await SharedStore.open(configuration)
        founder.close()
        #expect(founder.isFounder)
        let second = try await SharedStore.open(configuration)
        second.close()
        #expect(!second.isFounder)
        configuration.cluster = String(repeating: "0", count: 32)
        #expect(await code(configuration, founder.cluster.id) == .foreign)
        configuration.cluster = founder.cluster.id
        let third = try await SharedStore.open(configuration)
        third.close()
        #expect(third.cluster.id == founder.cluster.id)
    }

    @Test("In memory a cluster is founded as in a folder, with the key of the store or a mounted one, and nothing else")
    func memory() async throws {
        var configuration = SharedStoreConfiguration(path: scratch.file("store"))
        configuration.driver = .memory
        let own = try await SharedStore.open(configuration)
        defer { own.close() }
        #expect(own.isFounder && own.driver == .memory && own.store.state == .healthy)
        #expect(try await own.store.readCluster(mounted: nil) == own.cluster)
        configuration.clusterKeyFile = scratch.write("key", String(repeating: "k", count: 40))
        let mounted = try await SharedStore.open(configuration)
        defer { mounted.close() }
        #expect(mounted.isFounder && mounted.cluster.id != own.cluster.id && !mounted.cluster.isKeyOnVolume)
        let keys = try await configuration.mountedKeys()
        #expect(mounted.keyring == ClusterKeyring(try #require(keys)))
        let error = await #expect(throws: StoreError.self) { _ = try await SharedStore.openForCommand(configuration) }
        #expect(error?.code == .unsupported)
        #expect(scratch.names() == ["key"])
    }

    @Test("A command founds a cluster in a folder that the operator has named, and in no default folder")
    func commands() async throws {
        var configuration = SharedStoreConfiguration(path: scratch.file("store"))
        configuration.isPathExplicit = false
        let error = await #expect(throws: StoreError.self) { _ = try await SharedStore.openForCommand(configuration) }
        #expect(error?.code == .notFound && error?.reason.contains("--store-path") == true)
        #expect(scratch.names() == [])
        configuration.isPathExplicit = true
        let shared = try await SharedStore.openForCommand(configuration)
        shared.close()
        #expect(shared.isFounder)
        configuration.isPathExplicit = false
        try await SharedStore.openForCommand(configuration).close()
    }

    @Test("Nothing is written to another cluster's volume that appears at the path, nor to an empty one")
    func replacedVolume() async throws {
        let folder = scratch.file("store")
        let shared = try await SharedStore.open(SharedStoreConfiguration(path: folder))
        defer { shared.close() }
        try await shared.store.write("agents/a", .create([1]))
        let journal = try await shared.store.join(
            JoinOptions(
                incarnation: { Incarnation(milliseconds: 1) { .random(in: .min ... .max) } },
                info: { _ in [1] }
            )
        )
        try await journal.flush()
        for isFounded in [true, false] {
            #expect(rename(folder, scratch.file("away")) == 0)
            if isFounded {
                try await SharedStore.open(SharedStoreConfiguration(path: folder)).close()
            } else {
                mkdir(folder, 0o700)
                mkdir(folder + "/v2", 0o700)
            }
            let before = try FileManager.default.subpathsOfDirectory(atPath: folder).sorted()
            try await eventually("the store counts as gone") { shared.store.state == .gone }
            let error = await #expect(throws: StoreError.self) {
                try await shared.store.write("agents/b", .create([2]))
            }
            #expect(error?.code == .gone)
            #expect(try FileManager.default.subpathsOfDirectory(atPath: folder).sorted() == before)
            try FileManager.default.removeItem(atPath: folder)
            #expect(rename(scratch.file("away"), folder) == 0)
            try await eventually("the store is healthy again") { shared.store.state == .healthy }
        }
        #expect(try await shared.store.read("agents/a").bytes == [1])
    }
}
