import Cluster
import Formats
import FoundationEssentials
import Glibc
import NIOCore
import Operations
import Store
import Testing

@Suite("hopgate store check")
struct StoreCheckTests {
    private let folder = FileManager.default.temporaryDirectory.path + "/hopgate-check-\(UInt64.random(in: 0 ... .max))"

    private func check(_ change: (inout SharedStoreConfiguration) -> Void = { _ in }) async -> StoreCheckReport {
        var configuration = SharedStoreConfiguration(path: folder)
        change(&configuration)
        return await StoreCheck(configuration, heartbeatInterval: .milliseconds(10)).run()
    }

    private func createCluster() throws -> ClusterIdentity {
        let volume = Volume(files: try PosixFileSystem(path: folder + "/v1", creating: true))
        try volume.prepare()
        return try volume.openCluster(mounted: nil)
    }

    private func names() -> [String] { (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] }
    private func cleanUp() { try? FileManager.default.removeItem(atPath: folder) }

    @Test("A good store is usable, and the report says where the key is")
    func good() async throws {
        let cluster = try createCluster()
        defer { cleanUp() }
        let report = await check()
        #expect(report.isUsable && report.cluster == cluster && report.timings.count == 6)
        let text = report.text { $0.map { $0.joined(separator: " ") }.joined(separator: "\n") }
        #expect(text.contains("read access to the volume is access to the cluster") && text.hasSuffix("can be used."))
        #expect(report.json["usable"] == .bool(true))
    }

    @Test("An empty folder stays empty, and no cluster is created")
    func empty() async throws {
        mkdir(folder, 0o700)
        defer { cleanUp() }
        let report = await check()
        #expect(report.isUsable && report.cluster == nil && report.remarks.contains { $0.contains("no cluster yet") })
        #expect(names().isEmpty)
    }

    @Test("A missing folder and a file are reported as such")
    func noFolder() async throws {
        defer { unlink(folder) }
        #expect(await check().problems.count == 1)
        #expect(names().isEmpty)
        try Data().write(to: URL(fileURLWithPath: folder))
        #expect(await check().problems == ["\(folder): is not a folder; store.path must name one"])
    }

    @Test("A link in place of v1 is rejected by the check and by gateways alike; the configured folder may be a link")
    func links() async throws {
        defer { cleanUp() }
        _ = try createCluster()
        let link = folder + "-link"
        symlink(folder, link)
        defer { unlink(link) }
        #expect(await check { $0.path = link }.isUsable)
        let (shared, store) = try await SharedStore.openExisting(SharedStoreConfiguration(path: link))
        withExtendedLifetime(shared) { store.close() }
        rename(folder + "/v1", folder + "/v1.real")
        symlink(folder + "/v1.real", folder + "/v1")
        let problems = await check().problems
        #expect(problems.count == 1 && problems[0].hasPrefix("\(folder)/v1: is a symbolic link"))
        let configuration = SharedStoreConfiguration(path: folder)
        let creating = await #expect(throws: StoreError.self) { _ = try await SharedStore.open(configuration) }
        let existing = await #expect(throws: StoreError.self) { _ = try await SharedStore.openExisting(configuration) }
        #expect(creating?.description == problems.first && existing?.description == problems.first)
        // No cluster yet, and the configured folder itself is a link.
        unlink(folder + "/v1")
        #expect(await check { $0.path = link }.isUsable)
    }

    @Test("A missing key, a newer format, open modes and links have a line each")
    func broken() async throws {
        defer { cleanUp() }
        let cluster = try createCluster()
        let key = "\(folder)/v1/keys/\(cluster.keyring.signing.id)"
        func problem(_ text: String) async -> Bool {
            let report = await check()
            return !report.isUsable && report.problems.contains { $0.contains(text) }
        }
        rename(key, key + ".away")
        #expect(await problem("the key of cluster \(cluster.id) is not there"))
        rename(key + ".away", key)
        chmod(key, 0o644)
        #expect(await problem("is open to other users (mode 644)"))
        chmod(key, 0o600)
        #expect(await check().isUsable)
        symlink("/etc", "\(folder)/v1/agents/link")
        #expect(await problem("is a symbolic link"))
        unlink("\(folder)/v1/agents/link")
        let document = "\(folder)/v1/cluster.json/2"
        try Data(#"{"format":99,"cluster":"x","keys":["y"]}"#.utf8).write(to: URL(fileURLWithPath: document))
        chmod(document, 0o600)
        #expect(await problem("has format 99; this release reads 1"))
        unlink(document)
        #expect(await problem("store.driver") == false)
        #expect(await check { $0.driver = .memory }.isUsable == false)
    }
}

@Suite("Files of backups")
struct BackupFileTests {
    @Test("A backup has mode 0600, replaces the old one in one step, and leaves no temporary file")
    func file() throws {
        let folder = FileManager.default.temporaryDirectory.path + "/hopgate-backup-\(UInt64.random(in: 0 ... .max))"
        mkdir(folder, 0o700)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let path = folder + "/b.tar"
        for content in [[UInt8](repeating: 1, count: 3_000_000), [2]] {
            try BackupFile.write(content, to: path)
            #expect(try BackupFile.read(path) == content)
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["b.tar"])
        let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        #expect(throws: StoreError.self) { try BackupFile.write([1], to: folder + "/no/b.tar") }
        #expect(throws: StoreError.self) { try BackupFile.read(folder + "/nothing") }
    }
}
