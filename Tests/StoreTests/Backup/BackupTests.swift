import Formats
import Foundation
import Glibc
import Store
import TestSupport
import Testing

@Suite("Backup and restore")
struct BackupTests {
    let scratch = ScratchFolder()
    let other = ScratchFolder()

    /// Creates a store with everything that a backup has to contain.
    private func filled(mounted: [ClusterKey]? = nil) async throws -> (Volume, ClusterIdentity) {
        let volume = try scratch.volume()
        let cluster = try await volume.openCluster(mounted: mounted)
        for name in ["a", "b", "gone"] { try put(volume, cluster, "agents/\(name)", "1") }
        _ = try replace(volume, cluster, "agents/b", 1, "2")
        try volume.write("agents/gone", .remove(nil))
        for round in 1...3 {
            let bytes = certificate(cluster, round)
            try volume.write(
                "certs/app.test",
                round == 1 ? .create(bytes) : .replace(UInt64(round) - 1, bytes),
                epoch: 4
            )
        }
        try volume.write("acme/accounts/ca.test", .create(bytes("{}")))
        try volume.write("acme/on-demand/budget", .create(bytes(#"{"not_before":1}"#)))
        try volume.write("acme/orders/x", .create([9]), epoch: 1)
        try volume.write("acme/challenges/x", .create([9]))
        return (volume, cluster)
    }

    private func certificate(_ cluster: ClusterIdentity, _ round: Int) -> [UInt8] {
        let body = bytes(#"{"round":\#(round)}"#)
        return SealedDocument.seal(body, .certificate, context: "certs/app.test", with: cluster.keyring.signing)
    }

    private func seal(_ cluster: ClusterIdentity, _ key: StoreKey, _ version: UInt64, _ text: String) -> [UInt8] {
        let body = [String: JSONValue](dictionaryLiteral: ("text", .string(text))).json
        return SealedDocument.seal(body, .credential, context: "\(key)/\(version)", with: cluster.keyring.signing)
    }

    private func put(_ volume: Volume, _ cluster: ClusterIdentity, _ name: String, _ text: String) throws {
        let key = try StoreKey(name)
        try volume.write(key, .create(seal(cluster, key, 1, text)))
    }

    private func replace(
        _ volume: Volume,
        _ cluster: ClusterIdentity,
        _ name: String,
        _ version: UInt64,
        _ text: String
    ) throws -> UInt64 {
        let key = try StoreKey(name)
        return try volume.write(key, .replace(version, seal(cluster, key, version + 1, text)))
    }

    private func backup(
        _ volume: Volume,
        mounted: [ClusterKey]? = nil
    ) async throws -> (file: ArchiveFile, summary: BackupSummary) {
        let store = VolumeStore(volume: volume)
        defer { store.close() }
        let file = ArchiveFile(inMemory: "x")
        let summary = try await store.backup(into: file, mounted: mounted, release: "test", time: 1)
        return (file, summary)
    }

    private func restore(_ backup: Backup, into volume: Volume) async throws(StoreError) {
        try volume.prepare()
        let store = VolumeStore(volume: volume)
        defer { store.close() }
        try await store.restore(backup)
    }

    private func readCluster(_ volume: Volume, mounted: [ClusterKey]? = nil) async throws -> ClusterIdentity? {
        let store = VolumeStore(volume: volume)
        defer { store.close() }
        return try await store.readCluster(mounted: mounted)
    }

    private func requireRestored(_ cluster: ClusterIdentity, mounted: [ClusterKey]? = nil) async throws {
        let volume = try other.volume()
        let found = try #require(try await readCluster(volume, mounted: mounted))
        #expect(found.id == cluster.id && found.keyring == cluster.keyring && found.version == 1)
        let kept: [StoreKey: [UInt8]] = [
            "agents/a": seal(cluster, "agents/a", 1, "1"),
            "agents/b": seal(cluster, "agents/b", 1, "2"),
            "certs/app.test": certificate(cluster, 3),
            "acme/accounts/ca.test": bytes("{}"),
            "acme/on-demand/budget": bytes(#"{"not_before":1}"#),
            "acme/orders/x": [9],
        ]
        for (key, bytes) in kept {
            #expect(try volume.read(key) == StoredValue(bytes: bytes, version: 1), "\(key)")
        }
        #expect(scratch.names("v2/agents").contains("gone") && !other.names("v2/agents").contains("gone"))
        #expect(other.names("v2/acme/challenges").isEmpty)
        #expect(other.names("v2/keys") == scratch.names("v2/keys"))
        // Epochs begin again, below those of the leases to come.
        let store = VolumeStore(volume: volume)
        defer { store.close() }
        let lease = try await store.lease("app.test", LeaseOptions(guards: ["certs/app.test"]))
        try await store.put("certs/app.test", bytes("next"), under: lease)
        #expect(try volume.read("certs/app.test").epoch == lease.epoch)
    }

    @Test("A restore brings back the newest values as first versions, and removed values stay removed")
    func roundTrip() async throws {
        let (volume, cluster) = try await filled()
        let archive = try await backup(volume)
        #expect(archive.summary.notes.isEmpty && archive.summary.cluster == cluster.id)
        let backup = try Backup(archive.file, mounted: nil)
        #expect(backup.cluster == cluster.id && backup.credentialCount == 2 && backup.holdsKeys)
        #expect(backup.certificateCount == 1)
        try await restore(backup, into: other.volume())
        try await requireRestored(cluster)
    }

    @Test("With a mounted key the backup holds no key, and without that key it cannot be restored")
    func mounted() async throws {
        let keys = try ClusterKeyFile.parse(bytes(String(repeating: "k", count: 40)), path: "key")
        let (volume, cluster) = try await filled(mounted: keys)
        let archive = try await backup(volume, mounted: keys)
        #expect(throws: StoreError.self) { try Backup(archive.file, mounted: nil) }
        let foreign = try ClusterKeyFile.parse(bytes(String(repeating: "o", count: 40)), path: "key")
        let refused = #expect(throws: StoreError.self) { try Backup(archive.file, mounted: foreign) }
        #expect(refused?.code == .foreign && refused?.reason.contains("; add this key to cluster_key_file") == true)
        let backup = try Backup(archive.file, mounted: keys)
        #expect(!backup.holdsKeys)
        try await restore(backup, into: other.volume())
        try await requireRestored(cluster, mounted: keys)
    }

    @Test("A restore leaves a store alone that has a cluster or a file that is not in the backup")
    func notEmpty() async throws {
        let (volume, _) = try await filled()
        let backup = try Backup(try await backup(volume).file, mounted: nil)
        let founded = try other.volume()
        let cluster = try await founded.openCluster()
        await #expect(throws: StoreError.self) { try await restore(backup, into: founded) }
        #expect(try await readCluster(founded) == cluster)

        for name in ["agents/stranger", "agents/a", "acme/orders/x"] {
            let third = ScratchFolder()
            let used = try third.volume()
            try used.write(try StoreKey(name), .create([1]))
            // A value that was removed had versions that the seals of this backup do not have.
            if name == "acme/orders/x" { try used.write(try StoreKey(name), .remove(nil)) }
            let error = await #expect(throws: StoreError.self) { try await restore(backup, into: used) }
            #expect(error?.place == third.file("v2/\(name)"))
            #expect(try await readCluster(used) == nil)
        }
    }

    private func lowercased(_ bytes: [UInt8]) -> [UInt8] {
        bytes.map { (0x41...0x5a).contains($0) ? $0 + 0x20 : $0 }
    }

    @Test("Any changed byte is detected before anything is written")
    func damage() async throws {
        let (volume, _) = try await filled()
        let good = try contents(await backup(volume).file)
        var random = SystemRandomNumberGenerator()
        for _ in 0..<400 {
            var bad = good
            bad[Int.random(in: 0..<bad.count, using: &random)] ^= UInt8.random(in: 1...255, using: &random)
            // The hexadecimal digits of a MAC may be in either case.
            guard (try? Backup(try archiveFile(bad), mounted: nil)) != nil else { continue }
            #expect(lowercased(bad) == lowercased(good))
        }
        #expect(throws: StoreError.self) { try Backup(archiveFile(good.dropLast(10_240)), mounted: nil) }
        #expect(throws: StoreError.self) { try Backup(archiveFile([]), mounted: nil) }
    }

    @Test("Reading a backup has no limit below that of writing it: 20,000 files with long names")
    func many() throws {
        let key = ClusterKey.generate()
        let fields: [String: JSONValue] = [
            "format": .integer(1), "cluster": .string("c"), "keys": .array([.string(key.id)]),
        ]
        let sealed = SealedDocument.seal(fields.json, .cluster, context: "cluster.json/1", with: key)
        var files = [("cluster.json", sealed), ("keys/\(key.id)", key.storedBytes)]
        let long = String(repeating: "n", count: 100)
        for index in 0..<20_000 { files.append(("acme/names/\(index).\(long)", [])) }
        let backup = try Backup(try forged(files, cluster: "c", key: key), mounted: nil)
        #expect(backup.fileCount == files.count)
    }

    @Test("A certificate of the longest DNS name is in a backup and its restore")
    func longestName() async throws {
        let (volume, _) = try await filled()
        let key = try StoreKey("acme/names/\(String(repeating: "n", count: 253))")
        try volume.write(key, .create([1, 2]))
        let archive = try await backup(volume)
        #expect(archive.summary.notes == [])
        try await restore(Backup(archive.file, mounted: nil), into: other.volume())
        #expect(try other.volume().read(key).bytes == [1, 2])
    }

    /// Creates an archive of these files with a matching digest, sealed with a key.
    private func forged(
        _ files: [(String, [UInt8])],
        cluster: String,
        key: ClusterKey
    ) throws -> ArchiveFile {
        let file = ArchiveFile(inMemory: "x")
        var writer = TarWriter(file, time: 0)
        for (name, content) in files { try writer.add(name, content) }
        try writer.finish(cluster: cluster, release: "x", with: key)
        return file
    }

    @Test("An archive that was assembled by hand is refused, even with a matching digest")
    func forgeries() throws {
        let key = ClusterKey.generate()
        let fields: [String: JSONValue] = [
            "format": .integer(1), "cluster": .string("c"), "keys": .array([.string(key.id)]),
        ]
        let sealed = SealedDocument.seal(fields.json, .cluster, context: "cluster.json/1", with: key)
        let head: [(String, [UInt8])] = [("cluster.json", sealed), ("keys/\(key.id)", key.storedBytes)]
        func code(_ files: [(String, [UInt8])], cluster: String = "c", key: ClusterKey) -> StoreError.Code? {
            do {
                _ = try Backup(try forged(files, cluster: cluster, key: key), mounted: nil)
                return nil
            } catch {
                return (error as? StoreError)?.code
            }
        }
        #expect(code(head, key: key) == nil)
        let stranger = ClusterKey.generate()
        let credential = SealedDocument.seal(bytes("{}"), .credential, context: "agents/a/1", with: stranger)
        let mine = SealedDocument.seal(bytes("{}"), .credential, context: "agents/a/1", with: key)
        let later = SealedDocument.seal(bytes("{}"), .credential, context: "agents/a/2", with: key)
        #expect(code(head + [("agents/a", mine)], key: key) == nil)
        #expect(code(head + [("agents/a", credential)], key: key) == .foreign)
        #expect(code(head + [("agents/a", later)], key: key) == .corrupt)
        #expect(code(head + [("agents/b", mine)], key: key) == .corrupt)
        #expect(code(head + [("agents/a", bytes("{}"))], key: key) == .corrupt)
        #expect(code(head + [("agents/a", mine), ("agents/a", mine)], key: key) == .corrupt)
        #expect(code(head, cluster: "d", key: key) == .corrupt)
        #expect(code(head, key: stranger) == .foreign)
        #expect(code([head[0]], key: key) == .notFound)
        #expect(code([head[1]], key: key) == .corrupt)
        let second = SealedDocument.seal(fields.json, .cluster, context: "cluster.json/2", with: key)
        #expect(code([("cluster.json", second), head[1]], key: key) == .corrupt)
        #expect(code(head + [("keys/\(stranger.id)", stranger.storedBytes)], key: key) == .corrupt)
        #expect(code([head[0], ("keys/\(key.id)", stranger.storedBytes)], key: key) == .corrupt)
        for name in [
            "locks/a", "agents", "agents/a/b", "agents/a/1.json", "certs", "replicas/x/hb", "v2/agents/a", "keys/short",
            "keys/\(key.id)/x", "acme/challenges/a", "acme/a", "tmp/x", "cluster.json/1",
        ] {
            #expect(code(head + [(name, [1])], key: key) == .badName, "\(name)")
        }
        let big = [UInt8](repeating: 0, count: Volume.valueLimit + 1)
        #expect(code(head + [("acme/orders/a", big)], key: key) == .tooLarge)
        let certificate = SealedDocument.seal(bytes("{}"), .certificate, context: "certs/a", with: key)
        #expect(code(head + [("certs/a", certificate)], key: key) == nil)
        #expect(code(head + [("certs/b", certificate)], key: key) == .corrupt)
    }

    @Test("Files that a gateway would not accept are left out and noted")
    func leftOut() async throws {
        let (volume, _) = try await filled()
        try volume.write("agents/forged", .create(bytes("{}")))
        chmod(scratch.file("v2/agents/a/1.json"), 0o666)
        let archive = try await backup(volume)
        #expect(archive.summary.notes.count == 2 && archive.summary.notes.allSatisfy { $0.hasPrefix("left out: ") })
        #expect(try Backup(archive.file, mounted: nil).credentialCount == 1)
    }

    @Test("In the place of a damaged certificate the version is taken that gateways serve")
    func earlierVersion() async throws {
        let (volume, cluster) = try await filled()
        try volume.write("certs/app.test", .put(bytes("{}")))
        let archive = try await backup(volume)
        #expect(archive.summary.notes.count == 1)
        #expect(archive.summary.notes.first?.hasPrefix("taken in version 3: ") == true)
        let restored = try other.volume()
        try await restore(try Backup(archive.file, mounted: nil), into: restored)
        #expect(try restored.read("certs/app.test").bytes == certificate(cluster, 3))
    }
}

/// Returns an archive with these bytes.
func archiveFile(_ bytes: some Collection<UInt8>) throws -> ArchiveFile {
    let file = ArchiveFile(inMemory: "x.tar")
    try file.append(bytes)
    return file
}

/// Returns all bytes of an archive.
func contents(_ file: ArchiveFile) throws -> [UInt8] { try file.read(0..<file.size()) }
