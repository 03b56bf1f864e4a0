import Cluster
import Glibc
import Store
import Synchronization
import TestSupport
import Testing

@Suite("The store of a gateway")
struct SharedStoreTests {
    @Test("A gateway keeps its cluster when another cluster appears at the path, and reports it once")
    func foreign() async throws {
        let scratch = ScratchFolder()
        defer { scratch.remove() }
        let folder = scratch.file("store")
        let shared = try await SharedStore.open(SharedStoreConfiguration(path: folder))
        defer { shared.close() }
        let before = shared.cluster
        let problems = Mutex<[StoreError]>([])
        let running = Task { await shared.run { problem in problems.withLock { $0.append(problem) } } }
        defer { running.cancel() }
        // The volume is unmounted, and another process creates a cluster in the empty mount point.
        #expect(rename(folder, scratch.file("away")) == 0)
        let other = try await SharedStore.open(SharedStoreConfiguration(path: folder))
        #expect(other.cluster.id != before.id)
        other.close()
        try await eventually("the other cluster is noticed") {
            problems.withLock { $0.contains { $0.code == .foreign } }
        }
        #expect(shared.cluster == before)
        #expect(problems.withLock { $0.filter { $0.code == .foreign }.count } == 1)
        #expect(problems.withLock { $0.last?.reason.contains(before.id) } == true)
    }
}
