import Formats
import Foundation
import Glibc
import Store
import Synchronization
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
        try volume.write("acme/ca.test/account.json", .create(bytes("{}")))
        try volume.write("acme/ca.test", .create(bytes(#"{"not_before":1}"#)))
        try volume.write("acme/ca.test/orders/x", .create([9]), epoch: 1)
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
    ) throws -> (file: ArchiveFile, summary: BackupSummary) {
        let file = ArchiveFile(inMemory: "x")
        let summary = try volume.backup(into: file, mounted: mounted, release: "test", time: 1, created: "then")
        return (file, summary)
    }

    private func requireRestored(_ cluster: ClusterIdentity, mounted: [ClusterKey]? = nil) throws {
        let volume = try other.volume()
        let found = try #require(try volume.readCluster(mounted: mounted))
        #expect(found.id == cluster.id && found.keyring == cluster.keyring && found.version == cluster.version)
        #expect(try volume.read("agents/a").version == 1)
        let b = try volume.read("agents/b")
        #expect(b.version == 2 && b.bytes == seal(cluster, "agents/b", 2, "2"))
        #expect(throws: StoreError.self) { try volume.read("agents/gone") }
        // The version numbers continue, so that an old document of this name can never be valid again.
        #expect(try volume.write("agents/gone", .create([1])) == 3)
        let stored = StoredValue(bytes: certificate(cluster, 3), version: 3, epoch: 4)
        #expect(try volume.read("certs/app.test") == stored)
        #expect(try volume.read("acme/ca.test/account.json").bytes == bytes("{}"))
        #expect(try volume.read("acme/ca.test").bytes == bytes(#"{"not_before":1}"#))
        #expect(try volume.read("acme/ca.test/orders/x").bytes == [9])
    }

    @Test("A restore brings back the newest versions, and removed values stay removed")
    func roundTrip() async throws {
        let (volume, cluster) = try await filled()
        let archive = try backup(volume)
        #expect(archive.summary.notes.isEmpty && archive.summary.cluster == cluster.id)
        let backup = try Backup(archive.file, mounted: nil)
        #expect(backup.cluster == cluster.id && backup.credentialCount == 3 && backup.holdsKeys)
        try other.volume().restore(backup)
        try requireRestored(cluster)
    }

    @Test("With a mounted key the backup holds no key, and without that key it cannot be restored")
    func mounted() async throws {
        let keys = try ClusterKeyFile.parse(bytes(String(repeating: "k", count: 40)), path: "key")
        let (volume, cluster) = try await filled(mounted: keys)
        let archive = try backup(volume, mounted: keys)
        #expect(throws: StoreError.self) { try Backup(archive.file, mounted: nil) }
        let foreign = try ClusterKeyFile.parse(bytes(String(repeating: "o", count: 40)), path: "key")
        #expect(throws: StoreError.self) { try Backup(archive.file, mounted: foreign) }
        let backup = try Backup(archive.file, mounted: keys)
        #expect(!backup.holdsKeys)
        try other.volume().restore(backup)
        try requireRestored(cluster, mounted: keys)
    }

    @Test("A restore leaves a store alone that has a cluster or a file that is not in the backup")
    func notEmpty() async throws {
        let (volume, _) = try await filled()
        let backup = try Backup(try backup(volume).file, mounted: nil)
        let founded = try other.volume()
        let cluster = try await founded.openCluster()
        #expect(throws: StoreError.self) { try founded.restore(backup) }
        #expect(try founded.readCluster(mounted: nil) == cluster)

        let third = ScratchFolder()
        let used = try third.volume()
        try used.write("agents/stranger", .create([1]))
        #expect(throws: StoreError.self) { try used.restore(backup) }
        #expect(third.names("v2/agents").filter { !$0.hasPrefix(".") } == ["stranger"])
        #expect(try used.readCluster(mounted: nil) == nil)
    }

    private func lowercased(_ bytes: [UInt8]) -> [UInt8] {
        bytes.map { (0x41...0x5a).contains($0) ? $0 + 0x20 : $0 }
    }

    @Test("Any changed byte is detected before anything is written")
    func damage() async throws {
        let (volume, _) = try await filled()
        let good = try contents(backup(volume).file)
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
        var files = [("v2/cluster.json/1", storedFile(sealed)), ("v2/keys/\(key.id)", key.storedBytes)]
        let long = String(repeating: "n", count: 100)
        for index in 0..<20_000 { files.append(("v2/acme/names/\(index).\(long)/1.json", [])) }
        let backup = try Backup(try forged(files, cluster: "c", key: key), mounted: nil)
        #expect(backup.fileCount == files.count)
    }

    @Test("A name that fits into no archive is left out and noted, and does not fail the backup")
    func longName() async throws {
        let (volume, _) = try await filled()
        let part = String(repeating: "n", count: 240)
        try volume.write(try StoreKey("acme/\(part)/\(part)"), .create([1]))
        let archive = try backup(volume)
        #expect(archive.summary.notes.count == 1 && archive.summary.notes[0].hasSuffix("left out"))
        #expect(try Backup(archive.file, mounted: nil).fileCount == archive.summary.fileCount)
    }

    @Test("A certificate of the longest DNS name is in a backup and its restore")
    func longestName() async throws {
        let (volume, _) = try await filled()
        let key = try StoreKey("acme/names/\(String(repeating: "n", count: 253))")
        try volume.write(key, .create([1, 2]))
        let archive = try backup(volume)
        #expect(archive.summary.notes == [])
        try other.volume().restore(Backup(archive.file, mounted: nil))
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
        try writer.finish(BackupOrigin(cluster: cluster, release: "x", time: 0, created: "then"), with: key)
        return file
    }

    @Test("An archive that was assembled by hand is refused, even with a matching digest")
    func forgeries() throws {
        let key = ClusterKey.generate()
        let fields: [String: JSONValue] = [
            "format": .integer(1), "cluster": .string("c"), "keys": .array([.string(key.id)]),
        ]
        let sealed = SealedDocument.seal(fields.json, .cluster, context: "cluster.json/1", with: key)
        let head: [(String, [UInt8])] = [
            ("v2/cluster.json/1", storedFile(sealed)), ("v2/keys/\(key.id)", key.storedBytes),
        ]
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
        let credential = storedFile(
            SealedDocument.seal(bytes("{}"), .credential, context: "agents/a/1", with: stranger)
        )
        let mine = storedFile(SealedDocument.seal(bytes("{}"), .credential, context: "agents/a/1", with: key))
        #expect(code(head + [("v2/agents/a/1.json", mine)], key: key) == nil)
        #expect(code(head + [("v2/agents/a/1.json", credential)], key: key) == .foreign)
        #expect(code(head + [("v2/agents/a/2.json", mine)], key: key) == .corrupt)
        #expect(code(head + [("v2/agents/b/1.json", mine)], key: key) == .corrupt)
        #expect(code(head + [("v2/agents/a/1.json", storedFile(bytes("{}")))], key: key) == .corrupt)
        #expect(code(head + [("v2/agents/a/1.json", mine), ("v2/agents/a/2.json", mine)], key: key) == .corrupt)
        #expect(code(head, cluster: "d", key: key) == .corrupt)
        #expect(code(head, key: stranger) == .foreign)
        #expect(code([head[0]], key: key) == .notFound)
        #expect(code([head[1]], key: key) == .corrupt)
        #expect(code([("v2/cluster.json/2", storedFile(sealed)), head[1]], key: key) == .corrupt)
        #expect(code(head + [("v2/keys/\(stranger.id)", stranger.storedBytes)], key: key) == .corrupt)
        #expect(code([head[0], ("v2/keys/\(key.id)", stranger.storedBytes)], key: key) == .corrupt)
        for name in [
            "v2/locks/a/1", "v2/agents/1.json", "v2/agents/a/b/1.json", "v2/agents/a/01.json", "v2/agents/a/0.json",
            "v2/certs/1.json", "v2/certs/gen-0000000001-000001/x", "v2/replicas/x/hb", "v1/agents/a/1.json",
            "agents/a/1.json", "v2/keys/short", "v2/certs/a/x.json", "v2/tmp/x",
        ] {
            #expect(code(head + [(name, [1])], key: key) == .badName, "\(name)")
        }
        let big = [UInt8](repeating: 0, count: Volume.valueLimit + 100)
        #expect(code(head + [("v2/acme/a/1.json", big)], key: key) == .tooLarge)
        let certificate = storedFile(SealedDocument.seal(bytes("{}"), .certificate, context: "certs/a", with: key))
        #expect(code(head + [("v2/certs/a/1.json", certificate)], key: key) == nil)
        #expect(code(head + [("v2/certs/b/1.json", certificate)], key: key) == .corrupt)
        let value = storedFile([1])
        let both = [("v2/acme/a/1.json", value), ("v2/acme/a/1.json/b/1.json", value)]
        #expect(code(head + both, key: key) == .corrupt)
    }

    @Test("Files that a gateway would not accept are left out and noted")
    func leftOut() async throws {
        let (volume, _) = try await filled()
        try volume.write("agents/forged", .create(bytes("{}")))
        chmod(scratch.file("v2/agents/a/1.json"), 0o666)
        let archive = try backup(volume)
        #expect(archive.summary.notes.count == 2 && archive.summary.notes.allSatisfy { $0.hasSuffix("left out") })
        #expect(try Backup(archive.file, mounted: nil).credentialCount == 2)
    }

    @Test("A restore that is interrupted anywhere leaves a store without a cluster, and can be repeated")
    func crashes() async throws {
        let (volume, cluster) = try await filled()
        let backup = try Backup(try backup(volume).file, mounted: nil)
        var calls = 0
        while true {
            let target = ScratchFolder()
            let files = try PosixFileSystem(path: target.file("v2"), creating: true)
            let failing = FailingFileSystem(files, after: calls)
            do {
                try Volume(files: failing).restore(backup)
                break
            } catch {
                let volume = Volume(files: files)
                if try volume.readCluster(mounted: nil) == nil {
                    #expect(throws: Never.self) { try volume.restore(backup) }
                }
                #expect(try volume.readCluster(mounted: nil)?.id == cluster.id, "interrupted at call \(calls)")
                #expect(try volume.read("agents/b").version == 2)
                #expect(try volume.read("certs/app.test").version == 3)
            }
            calls += 1
        }
        #expect(calls > 50)
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

/// A file system that fails after a number of calls, as for a process that is killed.
private final class FailingFileSystem: InterceptedFileSystem {
    let files: any FileSystem
    private let left: Mutex<Int>

    init(_ files: any FileSystem, after calls: Int) {
        self.files = files
        left = Mutex(calls)
    }

    func intercept(_ call: FileFault.Call, _ path: String, _ access: FileAccess?) throws(FileFault) {
        let isLeft = left.withLock { left in
            left -= 1
            return left >= 0
        }
        guard isLeft else { throw FileFault(call, path, EPERM) }
    }
}
