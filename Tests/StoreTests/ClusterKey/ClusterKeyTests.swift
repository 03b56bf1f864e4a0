import Crypto
import Foundation
import Store
import TestSupport
import Testing

@Suite("The cluster key")
struct ClusterKeyTests {
    let scratch = ScratchFolder()
    static let known = ClusterKey(secret: (0..<32).map { UInt8($0) })

    @Test("Derived secrets never change")
    func derivation() {
        let key = Self.known
        #expect(key.id == "cc420ee3d6f5c9607e4c37299ad31302")
        #expect(key.meshAuthoritySeed == hex("85c0de9136f586412ef9e9babf5ec651a3118db85a779f404f3fa4d4447dfd27"))
        #expect(key.adminToken == "ec87347f99fdbca79ea004bcc97fb5acfc32ee4de0efc50a52a373ba35d94bdf")
        #expect(key.foundedClusterID == "72b17dbb20e40bfce1805af790a12718")
    }

    @Test("A sealed document is valid at its own location only, and not after an edit")
    func sealing() throws {
        let body = bytes(#"{"cluster":"c1","format":1,"keys":["k1"]}"#)
        let sealed = SealedDocument.seal(body, .cluster, context: "cluster.json/1", with: Self.known)
        let golden =
            #"{"mac":"cc420ee3d6f5c9607e4c37299ad31302."#
            + "675a03f988ad3f71983a7ac8d3c0c91e868e507f391b78c0fde7afcb20a1983a"
            + #"","cluster":"c1","format":1,"keys":["k1"]}"#
        #expect(String(decoding: sealed, as: UTF8.self) == golden)
        #expect((try JSONSerialization.jsonObject(with: Data(sealed)) as? [String: Any])?.count == 4)
        let ring = ClusterKeyring([Self.known])
        func open(
            _ bytes: [UInt8],
            _ purpose: ClusterKey.Purpose = .cluster,
            context: String = "cluster.json/1",
            with ring: ClusterKeyring = ClusterKeyring([Self.known])
        ) throws -> [UInt8] {
            try SealedDocument.open(bytes, purpose, context: context, with: ring, place: "x")
        }
        #expect(try open(sealed) == body)
        #expect(throws: StoreError.self) { try open(sealed, .credential) }
        #expect(throws: StoreError.self) { try open(sealed, context: "cluster.json/2") }
        let other = ClusterKey.generate()
        #expect(throws: StoreError.self) { try open(sealed, with: ClusterKeyring([other])) }
        #expect(try open(sealed, with: ClusterKeyring([other, Self.known])) == body)
        for index in sealed.indices {
            for bit in 0..<8 {
                var edited = sealed
                edited[index] ^= 1 << bit
                // The hexadecimal digits of the MAC may be in either case.
                if String(decoding: edited, as: UTF8.self).lowercased() == golden.lowercased(), index < 110 { continue }
                #expect((try? open(edited)) != body)
            }
            #expect(throws: StoreError.self) { try open(Array(sealed[..<index])) }
        }
        let empty = SealedDocument.seal(bytes("{}"), .replicaInfo, context: "", with: Self.known)
        #expect(try open(empty, .replicaInfo, context: "", with: ring) == bytes("{}"))
    }

    @Test("A store is founded once; later starts find the same cluster")
    func founding() async throws {
        let volume = try scratch.volume()
        let founded = try await volume.openCluster()
        let found = try await scratch.volume().openCluster()
        #expect(founded == found && founded.isKeyOnVolume)
        #expect(scratch.names("v2/keys") == [founded.keyring.signing.id])
        #expect(scratch.names("v2/cluster.json") == ["1"])
        #expect(founded.id == founded.keyring.signing.foundedClusterID)
    }

    @Test("A store without cluster.json that has any value founds no new cluster", arguments: StoreLayout.kept)
    func incomplete(_ prefix: StoreKey) async throws {
        let volume = try scratch.volume()
        let key = try prefix.child("x")
        try volume.write(key, .create([1]))
        let error = await #expect(throws: StoreError.self) { try await volume.openCluster() }
        #expect(error?.code == .corrupt && error?.reason.contains("run the same restore again") == true)
        #expect(error?.reason.contains(key.path) == true)
        #expect(scratch.names("v2/keys").isEmpty && scratch.names("v2/cluster.json").isEmpty)
    }

    @Test("With a mounted key nothing secret is on the volume, and another key is refused")
    func mounted() async throws {
        let first = try ClusterKeyFile.parse(bytes(String(repeating: "k", count: 40) + "\n"), path: "key")
        let other = try ClusterKeyFile.parse(bytes(String(repeating: "o", count: 40) + "\n"), path: "key")
        let cluster = try await scratch.volume().openCluster(mounted: first)
        #expect(!cluster.isKeyOnVolume && scratch.names("v2/keys").isEmpty)
        #expect(try await scratch.volume().openCluster(mounted: other + first).id == cluster.id)
        let elsewhere = try scratch.volume()
        do {
            _ = try await elsewhere.openCluster(mounted: other)
            Issue.record("a foreign key was accepted")
        } catch {
            #expect(error.code == .foreign)
        }
        await #expect(throws: StoreError.self) { try await scratch.volume().openCluster() }
    }

    @Test("A key moves from the volume into a mounted secret as 64 digits")
    func moving() async throws {
        let cluster = try await scratch.volume().openCluster()
        let digits = cluster.keyring.signing.storedBytes.map { String(format: "%02X", $0) }.joined()
        let mounted = try ClusterKeyFile.parse(bytes("# moved\n\n \(digits)\r\n"), path: "key")
        #expect(mounted == cluster.keyring.keys)
        let moved = try await scratch.volume().openCluster(mounted: mounted)
        #expect(moved.id == cluster.id && moved.keysOnVolume == [mounted[0].id])
        let path = "/store/v2/keys/\(mounted[0].id)"
        #expect(
            moved.keyDescriptions(in: "/store/v2") == ["\(mounted[0].id) (mounted; also on the volume: rm \(path))"]
        )
        try FileManager.default.removeItem(atPath: scratch.file("v2/keys/\(mounted[0].id)"))
        #expect(try await scratch.volume().openCluster(mounted: mounted).isKeyOnVolume == false)
    }

    @Test("Of mounted keys those are on the volume that have a file there, whichever cluster.json names")
    func mountedKeysOnVolume() async throws {
        let cluster = try await scratch.volume().openCluster()
        let (old, new) = (cluster.keyring.signing, ClusterKey.generate())
        let folder = "/store/v2"
        #expect(cluster.keysOnVolume == [old.id] && !cluster.isMounted)
        #expect(cluster.keyDescriptions(in: folder) == ["\(old.id) (on the volume)"])
        let both = try await scratch.volume().openCluster(mounted: [new, old])
        #expect(both.isMounted && both.keysOnVolume == [old.id])
        #expect(
            both.keyDescriptions(in: folder)
                == ["\(new.id) (mounted)", "\(old.id) (mounted; also on the volume: rm \(folder)/keys/\(old.id))"]
        )
        let volume = try scratch.volume()
        let store = VolumeStore(volume: volume)
        defer { store.close() }
        try await store.replace(both.resealed())
        // The old key still has a file, but nothing that it seals is valid any more.
        let alone = try await volume.openCluster(mounted: [new])
        #expect(alone.keysOnVolume == [] && !alone.isKeyOnVolume)
        #expect(alone.keyDescriptions(in: folder) == ["\(new.id) (mounted)"])
    }

    @Test(
        "An invalid key file is refused with the reason",
        arguments: [
            "", "\n# only a remark\n", "short\n", String(repeating: "k", count: 1_025),
            "k\u{1}" + String(repeating: "k", count: 40),
        ]
    )
    func badKeyFiles(_ text: String) {
        #expect(throws: StoreError.self) { try ClusterKeyFile.parse(bytes(text), path: "key") }
    }

    @Test("A key is rotated in three steps; fields of later releases are kept")
    func rotation() async throws {
        let volume = try scratch.volume()
        let store = VolumeStore(volume: volume)
        defer { store.close() }
        let first = try await volume.openCluster()
        // A field that a later release has added.
        let stored = try volume.read("cluster.json")
        let body = try SealedDocument.open(
            stored.bytes,
            .cluster,
            context: "cluster.json/1",
            with: first.keyring,
            place: "x"
        )
        let extended = Array(body.dropLast()) + bytes(#","later":{"a":[1,2.5,null,true]}}"#)
        let sealed = SealedDocument.seal(extended, .cluster, context: "cluster.json/2", with: first.keyring.signing)
        try volume.write("cluster.json", .replace(1, sealed))

        let known = try await volume.openCluster()
        let key = ClusterKey.generate()
        try await store.createClusterKey(key)
        let added = try known.adding(key)
        try await store.replace(added)
        #expect(added.keyring.keys.count == 2 && added.keyring.signing == first.keyring.signing)
        #expect(try await volume.openCluster() == added)
        #expect(try await store.readCluster(mounted: nil) == added)
        let new = added.keyring.keys[1].id
        let signed = try added.signing(with: new)
        try await store.replace(signed)
        #expect(signed.keyring.signing.id == new)
        #expect(throws: StoreError.self) { try signed.retiring(new) }
        #expect(throws: StoreError.self) { try signed.signing(with: "another") }
        await #expect(throws: StoreError.self) { try await store.replace(added.signing(with: new)) }
        let retired = try signed.retiring(first.keyring.signing.id)
        try await store.replace(retired)
        // A process that ended while it created the key may have left a copy.
        let place = "v2/keys/\(first.keyring.signing.id)"
        let copy = "v2/tmp/left\(Volume.temporarySuffix(forSecret: String(place.dropFirst(3))))"
        scratch.write(copy, scratch.read(place))
        try await store.removeClusterKey(first.keyring.signing.id)
        #expect(scratch.names("v2/tmp").isEmpty)
        #expect(retired.keyring.keys.map(\.id) == [new] && retired.id == first.id)
        #expect(try await volume.openCluster() == retired)
        #expect(scratch.names("v2/keys") == [new])
        let text = String(decoding: try volume.read("cluster.json").bytes, as: UTF8.self)
        #expect(text.contains(#""later":{"a":[1,2.5,null,true]}"#))
    }

    @Test("A damaged key, a forged cluster.json and a later format stop the start")
    func damaged() async throws {
        let volume = try scratch.volume()
        let cluster = try await volume.openCluster()
        let keyPath = scratch.file("v2/keys/\(cluster.keyring.signing.id)")
        let key = try Data(contentsOf: URL(fileURLWithPath: keyPath))
        try Data(key.reversed()).write(to: URL(fileURLWithPath: keyPath))
        await #expect(throws: StoreError.self) { try await volume.openCluster() }
        try key.prefix(31).write(to: URL(fileURLWithPath: keyPath))
        await #expect(throws: StoreError.self) { try await volume.openCluster() }
        try key.write(to: URL(fileURLWithPath: keyPath))
        #expect(try await volume.openCluster() == cluster)

        let document = URL(fileURLWithPath: scratch.file("v2/cluster.json/1"))
        let text = try String(contentsOf: document, encoding: .utf8)
        let forged = text.replacingOccurrences(of: cluster.id, with: String(repeating: "0", count: cluster.id.count))
        try forged.write(to: document, atomically: false, encoding: .utf8)
        await #expect(throws: StoreError.self) { try await volume.openCluster() }
        try text.replacingOccurrences(of: #""format":1"#, with: #""format":2"#)
            .write(to: document, atomically: false, encoding: .utf8)
        do {
            _ = try await volume.openCluster()
            Issue.record("a later format was accepted")
        } catch {
            #expect(error.code == .newerFormat)
        }
        try "{".write(to: document, atomically: false, encoding: .utf8)
        await #expect(throws: StoreError.self) { try await volume.openCluster() }
    }

    @Test("A store that lost its cluster.json is not founded a second time")
    func halfAStore() async throws {
        let volume = try scratch.volume()
        _ = try await volume.openCluster()
        try volume.write("agents/a", .create([1]))
        try FileManager.default.removeItem(atPath: scratch.file("v2/cluster.json"))
        await #expect(throws: StoreError.self) { try await volume.openCluster() }
    }

    @Test("A MAC is HMAC-SHA-256 of the context's length, the context and the bytes, also for long ones")
    func standardMAC() {
        let key = ClusterKey(secret: (0..<32).map { UInt8($0) })
        for purpose in ClusterKey.Purpose.allCases {
            let derived = SymmetricKey(data: key.derive("mac/\(purpose.label)", 32))
            for size in [0, 1, 55, 56, 63, 64, 65, 1_000] {
                let (context, bytes) = ("agents/x/\(size)", (0..<size).map { UInt8(truncatingIfNeeded: $0) })
                let length = withUnsafeBytes(of: UInt32(context.utf8.count).littleEndian) { Array($0) }
                let right = HMAC<SHA256>.authenticationCode(for: length + Array(context.utf8) + bytes, using: derived)
                let mac = key.mac(purpose, context: context, bytes)
                #expect(mac == Array(right))
                #expect(key.isMAC(mac, purpose, context: context, of: bytes))
                for index in [0, 31] {
                    var wrong = mac
                    wrong[index] ^= 1
                    #expect(!key.isMAC(wrong, purpose, context: context, of: bytes))
                }
                #expect(!key.isMAC(Array(mac.dropLast()), purpose, context: context, of: bytes))
                #expect(!key.isMAC([], purpose, context: context, of: bytes))
            }
        }
    }
}
