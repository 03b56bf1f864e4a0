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

    @Test("A missing folder can be used if a start can create it; a file and a link to nothing cannot")
    func noFolder() async throws {
        let missing = await check()
        #expect(missing.isFaultless, "\(missing.problems)")
        #expect(missing.remarks == ["\(folder): does not exist yet; the first gateway that starts creates it"])
        #expect(scratch.names("store").isEmpty)
        let dangling = scratch.file("dangling")
        symlink(scratch.file("nothing"), dangling)
        let configured = SharedStoreConfiguration(path: dangling)
        let start = await #expect(throws: StoreError.self) { _ = try await SharedStore.open(configured) }
        #expect(start?.reason.hasPrefix("cannot be created") == true)
        let linked = await check { $0.path = dangling }
        #expect(linked.problems.count == 1 && linked.problems.first == start?.description)
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

    @Test("A start, a check of the store and one of the configuration refuse the same folders in the same words")
    func agreement() async throws {
        let configuration = SharedStoreConfiguration(path: folder)
        /// Returns the message of a start.
        func refusal() async throws -> String {
            let error = await #expect(throws: StoreError.self) { _ = try await SharedStore.open(configuration) }
            return try #require(error).description
        }
        for isFounded in [false, true] {
            if isFounded {
                _ = try await createCluster()
            } else {
                mkdir(folder, 0o700)
                mkdir(folder + "/v2", 0o700)
            }
            try await configuration.requireStartable(isFounding: !isFounded)
            for path in isFounded ? ["", "/locks", "/agents"] : [""] {
                chmod("\(folder)/v2\(path)", 0o755)
                let start = try await refusal()
                #expect(start.contains("is open to other users (mode 755); fix it with: chmod 700"))
                let error = await #expect(throws: StoreError.self) {
                    try await configuration.requireStartable(isFounding: !isFounded)
                }
                #expect(error?.description == start)
                let problems = await check().problems
                let problem = "\(folder)/v2\(path): is open to other users"
                #expect(problems.contains { $0.hasPrefix(problem) }, "\(problems)")
                chmod("\(folder)/v2\(path)", 0o700)
            }
        }
        // With store.cluster a start founds none, and creates no folders.
        var named = configuration
        let cluster = try await createCluster()
        named.cluster = cluster.id
        chmod("\(folder)/v2", 0o755)
        let other = await #expect(throws: StoreError.self) { _ = try await SharedStore.open(named) }
        let unnamed = try await refusal()
        #expect(other?.description == unnamed)
        chmod("\(folder)/v2", 0o700)
        rename("\(folder)/v2", "\(folder)/v1")
        let start = try await refusal()
        #expect(start.hasPrefix("\(folder)/v1: has a format that this release does not read; move it away"))
        #expect(await check().problems == [start])
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
