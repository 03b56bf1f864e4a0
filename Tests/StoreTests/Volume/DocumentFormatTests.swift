import Crypto
import Formats
import Store
import TestSupport
import Testing

/// The documents and archives that the store itself writes. Their bytes were generated independently of this code, and
/// never change.
@Suite("Golden documents of the store")
struct DocumentFormatTests {
    private let scratch = ScratchFolder()
    private static let key = ClusterKey(secret: (0..<32).map { UInt8($0) })
    private static let header = "HGV2 value 0 0123456789abcdef0123456789abcdef\n"
    private static let cluster =
        #"{"mac":"cc420ee3d6f5c9607e4c37299ad31302.9833d10e8399951313889d38481751b1bda6af6dde0b12291ab8ba7b16283387","#
        + #""cluster":"72b17dbb20e40bfce1805af790a12718","format":1,"keys":["cc420ee3d6f5c9607e4c37299ad31302"]}"#
    private static let manifest =
        #"{"mac":"cc420ee3d6f5c9607e4c37299ad31302.38af1cd119ca5aac0b13b52766042adaa4a21c64b63822e5279ed42d6f9fe92b","#
        + #""cluster":"72b17dbb20e40bfce1805af790a12718","created":"2027-01-15T08:00:00Z","files":2,"format":2,"#
        + #""release":"0.1.0","sha256":"bb258f9dc80e6c9d3dc490dfc3b26fec42d333da2c2c548f2226d4a4835213c2"}"#
    /// The first header of the archive, with the number of zero bytes after each field.
    private static let tarHeader: [(String, Int)] = [
        ("cluster.json", 88), ("0000600", 1), ("0000000", 1), ("0000000", 1), ("00000000317", 1),
        ("15322351000", 1), ("011600", 1), (" 0", 100), ("ustar", 1), ("00", 64), ("0000000", 1), ("0000000", 168),
    ]

    private func volume() throws -> Volume { try scratch.volume(random: { 0x0123_4567_89ab_cdef }) }

    @Test("Golden bytes of cluster.json")
    func clusterDocument() async throws {
        let volume = try volume()
        let identity = try await volume.openCluster(mounted: [Self.key])
        #expect(scratch.read("v2/cluster.json/1") == bytes(Self.header + Self.cluster))
        #expect(identity.id == "72b17dbb20e40bfce1805af790a12718" && identity.keyring.keys == [Self.key])
        // A key rotation keeps unknown fields; see `ClusterKeyTests.rotation()`.
        let faults = formatFaults(bytes(Self.cluster), keepsUnknownFields: false) { body in
            SealedDocument.seal(body, .cluster, context: "cluster.json/1", with: Self.key)
        } recode: { document in
            let found = try ClusterIdentity(
                StoredValue(bytes: document, version: 1),
                ClusterDocument(document, place: "x"),
                keys: [Self.key],
                isMounted: true,
                keysOnVolume: [],
                place: "x"
            )
            return found == identity ? document : []
        }
        #expect(faults == [])
    }

    @Test("A version file: every truncation of its header is refused")
    func versionFile() throws {
        let volume = try volume()
        try volume.write("agents/a", .create(bytes("x")))
        let golden = bytes(Self.header + "x")
        #expect(scratch.read("v2/agents/a/1.json") == golden)
        for count in golden.indices.dropLast() {
            scratch.write("v2/agents/a/1.json", Array(golden[..<count]))
            #expect(throws: StoreError.self, "\(count)") { try volume.read("agents/a") }
        }
        for index in golden.indices.dropLast() {
            var changed = golden
            changed[index] ^= 0x80
            scratch.write("v2/agents/a/1.json", changed)
            #expect(throws: StoreError.self, "\(index)") { try volume.read("agents/a") }
        }
    }

    @Test("A hint names the key that changed; a damaged one is ignored")
    func hint() throws {
        let volume = try volume()
        try volume.write("agents/a", .create(bytes("x")))
        let golden = bytes("a\n0123456789abcdef0123456789abcdef\n")
        #expect(scratch.names("v2/agents/.changes") == ["1"] && scratch.read("v2/agents/.changes/1") == golden)
        for damaged in [[], bytes("a"), bytes("../a\n"), bytes("\n"), [0xff, 0x0a]] {
            scratch.write("v2/agents/.changes/1", damaged)
            let values = PolledValues(volume: volume, prefix: "agents")
            try values.poll()
            #expect(values.current.keys.sorted() == ["a"])
        }
    }

    private func archive(ending manifest: [UInt8]?) throws -> ArchiveFile {
        let file = ArchiveFile(inMemory: "x")
        var writer = TarWriter(file, time: 1_800_000_000)
        try writer.add("cluster.json", bytes(Self.cluster))
        try writer.add("keys/\(Self.key.id)", Self.key.storedBytes)
        if let manifest {
            try writer.finish("hopgate-backup.json", manifest)
        } else {
            try writer.finish(cluster: "72b17dbb20e40bfce1805af790a12718", release: "0.1.0", with: Self.key)
        }
        return file
    }

    @Test("A backup: tar headers and the sealed list of contents")
    func backup() throws {
        let file = try archive(ending: nil)
        let golden = try contents(file)
        // As Python's tarfile module writes it, apart from the numbers of devices.
        let digest = "10e8b0d83cdfc6b8006954d284851af720a26d90044014c0bcff468c4dc7d995"
        #expect(Hex.string(SHA256.hash(data: golden)) == digest)
        let header = Self.tarHeader.flatMap { bytes($0) + [UInt8](repeating: 0, count: $1) }
        #expect(Array(golden[..<512]) == header)
        #expect(Array(golden[2_560..<2_560 + Self.manifest.utf8.count]) == bytes(Self.manifest))
        let backup = try Backup(file, mounted: nil)
        #expect(backup.cluster == "72b17dbb20e40bfce1805af790a12718" && backup.release == "0.1.0")
        #expect(backup.created == "2027-01-15T08:00:00Z" && backup.holdsKeys && backup.fileCount == 2)

        let faults = formatFaults(bytes(Self.manifest), keepsUnknownFields: false) { body in
            SealedDocument.seal(body, .backup, context: "hopgate-backup.json/2", with: Self.key)
        } recode: { manifest in
            _ = try Backup(try archive(ending: manifest), mounted: nil)
            return manifest
        }
        #expect(faults == [])
        for count in stride(from: 0, to: golden.count, by: 97) {
            #expect(throws: StoreError.self, "\(count)") {
                try Backup(try archiveFile(golden[..<count]), mounted: nil)
            }
        }
    }
}
