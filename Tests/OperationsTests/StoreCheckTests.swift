import Cluster
import Formats
import FoundationEssentials
import Glibc
import NIOCore
import Operations
import Store
import TestSupport
import Testing

@Suite("hopgate store check")
struct StoreCheckTests {
    private let scratch = ScratchFolder()
    /// The folder of the store, which does not exist at first.
    private var folder: String { scratch.file("store") }

    private func check(_ change: (inout SharedStoreConfiguration) -> Void = { _ in }) async -> StoreCheckReport {
        var configuration = SharedStoreConfiguration(path: folder)
        change(&configuration)
        return await StoreCheck(configuration, heartbeatInterval: .milliseconds(10)).run()
    }

    private func createCluster() async throws -> ClusterIdentity {
        let (store, cluster, _) = try await VolumeStore.open(path: folder + "/v2", mounted: nil)
        store.close()
        return cluster
    }

    @Test("A good store is usable, and the report says where the key is")
    func good() async throws {
        let cluster = try await createCluster()
        let report = await check()
        #expect(report.isUsable && report.cluster == cluster && report.timings.count == 6)
        let text = report.text { $0.map { $0.joined(separator: " ") }.joined(separator: "\n") }
        #expect(text.contains("read access to the volume is access to the cluster") && text.hasSuffix("can be used."))
        #expect(report.json()["usable"] == .bool(true))
    }

    @Test("An empty folder stays empty, and no cluster is created")
    func empty() async throws {
        mkdir(folder, 0o700)
        let report = await check()
        #expect(report.isUsable && report.cluster == nil && report.remarks.contains { $0.contains("no cluster yet") })
        #expect(scratch.names("store").isEmpty)
    }

    @Test("A missing folder and a file are reported as such")
    func noFolder() async throws {
        #expect(await check().problems.count == 1)
        #expect(scratch.names("store").isEmpty)
        scratch.write("store", "")
        let problem = "\(folder): is not a folder; store.path must name one"
        #expect(await check().problems == [problem])
        let configuration = SharedStoreConfiguration(path: folder)
        let creating = await #expect(throws: StoreError.self) { _ = try await SharedStore.open(configuration) }
        let existing = await #expect(throws: StoreError.self) { _ = try await SharedStore.openExisting(configuration) }
        #expect(creating?.description == problem && existing?.description == problem)
        let impossible = SharedStoreConfiguration(path: "/proc/x")
        let refused = await #expect(throws: StoreError.self) { _ = try await SharedStore.open(impossible) }
        #expect(refused?.reason.hasPrefix("cannot be created; correct store.path, or create the folder") == true)
    }

    @Test("A link in place of v2 is rejected by the check and by gateways alike; the configured folder may be a link")
    func links() async throws {
        _ = try await createCluster()
        let link = scratch.file("link")
        scratch.link("link", to: folder)
        #expect(await check { $0.path = link }.isUsable)
        try await SharedStore.openExisting(SharedStoreConfiguration(path: link)).close()
        rename(folder + "/v2", folder + "/v2.real")
        symlink(folder + "/v2.real", folder + "/v2")
        let problems = await check().problems
        #expect(problems.count == 1 && problems[0].hasPrefix("\(folder)/v2: is a symbolic link"))
        let configuration = SharedStoreConfiguration(path: folder)
        let creating = await #expect(throws: StoreError.self) { _ = try await SharedStore.open(configuration) }
        let existing = await #expect(throws: StoreError.self) { _ = try await SharedStore.openExisting(configuration) }
        #expect(creating?.description == problems.first && existing?.description == problems.first)
        // No cluster yet, and the configured folder itself is a link.
        unlink(folder + "/v2")
        #expect(await check { $0.path = link }.isUsable)
    }

    @Test("Entries in keys/ that cluster.json does not name are to be deleted, and the store can be used")
    func strayKeys() async throws {
        _ = try await createCluster()
        let keys = "\(folder)/v2/keys"
        mkdir("\(keys)/folder", 0o700)
        chmod("\(keys)/folder", 0o755)
        mkfifo("\(keys)/pipe", 0o600)
        let report = await check()
        #expect(report.isFaultless, "\(report.problems) \(report.unusable)")
        for path in ["\(keys)/folder", "\(keys)/pipe"] {
            #expect(report.remarks.contains("\(path): is not a key of this cluster; delete it with: rm -r \(path)"))
        }
    }

    @Test("A missing key, a newer format, open modes and links have a line each")
    func broken() async throws {
        let cluster = try await createCluster()
        let key = "\(folder)/v2/keys/\(cluster.keyring.signing.id)"
        func problem(_ text: String) async -> Bool {
            let report = await check()
            return !report.isUsable && report.problems.contains { $0.contains(text) }
        }
        rename(key, key + ".away")
        #expect(await problem("the key of cluster \(cluster.id) is not there"))
        #expect(await problem("set cluster_key_file"))
        rename(key + ".away", key)
        chmod(key, 0o644)
        #expect(await problem("is open to other users (mode 644)"))
        #expect(await check().unusable.isEmpty)
        chmod(key, 0o600)
        #expect(await check().isUsable)
        rename("\(folder)/v2/agents", "\(folder)/away")
        symlink("\(folder)/away", "\(folder)/v2/agents")
        #expect(await problem("is a symbolic link"))
        unlink("\(folder)/v2/agents")
        rename("\(folder)/away", "\(folder)/v2/agents")
        let document = scratch.write(
            "store/v2/cluster.json/2",
            String(decoding: storedFile(Array(#"{"format":99,"cluster":"x","keys":["y"]}"#.utf8)), as: UTF8.self)
        )
        #expect(await problem("has format 99; this release reads 1; run the release that wrote it or a later one"))
        unlink(document)
        #expect(await problem("store.driver") == false)
        #expect(await check { $0.driver = .memory }.isUsable == false)
    }
}
