import Cluster
import FoundationEssentials
import Glibc
import Logging
import NIOCore
import Operations
import Store
import Synchronization
import TestSupport
import Testing

@Suite("Rotation of the cluster's key")
struct KeyRotationTests {
    /// A store with some credentials, and replicas on it.
    private final class Rig: Sendable {
        let folder = ScratchFolder()
        let store: VolumeStore
        let first: ClusterIdentity
        private let tasks = Mutex<[Task<Void, Never>]>([])
        private let replicas = Mutex<[SharedStore]>([])

        init(credentials: Int = 3) async throws {
            (store, first, _) = try await VolumeStore.open(path: folder.file("v2"), mounted: nil)
            for number in 0..<credentials {
                let key = try StoreKey("agents/token\(number)")
                let sealed = SealedDocument.seal(
                    Array(#"{"id":"token\#(number)"}"#.utf8),
                    .credential,
                    context: "\(key)/1",
                    with: first.keyring.signing
                )
                try await store.write(key, .create(sealed))
            }
        }

        func startReplica(_ name: String, observesRotation: Bool = true) async throws -> SharedStore {
            let shared = try await SharedStore.open(SharedStoreConfiguration(path: folder.path))
            var logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            logger.logLevel = .critical
            let presence = ReplicaPresence(shared: shared, name: name, version: "test", logger: logger)
            presence.update { $0.state = .active }
            tasks.withLock { $0.append(Task { await presence.run() }) }
            if observesRotation { tasks.withLock { $0.append(Task { await shared.run { _ in } }) } }
            replicas.withLock { $0.append(shared) }
            // The rotation must find it alive.
            try await eventually("\(name) has a heartbeat") { presence.hasJoined }
            return shared
        }

        func rotation(
            of other: VolumeStore? = nil,
            retiring: Bool = false,
            timeout: TimeAmount = .seconds(30),
            _ report: @escaping @Sendable (KeyRotation.Event) -> Void = { _ in }
        ) -> KeyRotation {
            var options = KeyRotation.Options()
            options.retiresOld = retiring
            options.timeout = timeout
            options.heartbeatInterval = .milliseconds(2_500)
            return KeyRotation(store: other ?? store, mounted: nil, options: options, report: report)
        }

        /// The ids of the keys that have sealed the credentials, which must all verify.
        func sealingKeys(_ keyring: ClusterKeyring) async throws -> Set<String> {
            var ids: Set<String> = []
            for (key, outcome) in try await store.readAll("agents") {
                let value = try outcome.get()
                _ = try SealedDocument.open(
                    value.bytes,
                    .credential,
                    context: "\(key)/\(value.version)",
                    with: keyring,
                    place: "x"
                )
                if let id = SealedDocument.keyID(value.bytes) { ids.insert(id) }
            }
            return ids
        }

        func stop() {
            for task in tasks.withLock({ $0 }) { task.cancel() }
            for replica in replicas.withLock({ $0 }) { replica.close() }
            store.close()
        }
    }

    @Test("Two replicas adopt the new key, the credentials are sealed with it, and the old key can be retired")
    func rotation() async throws {
        let rig = try await Rig()
        defer { rig.stop() }
        let one = try await rig.startReplica("one")
        let two = try await rig.startReplica("two")
        let rotated = try await rig.rotation().run()
        #expect(rotated.id == rig.first.id && rotated.keyring.signing != rig.first.keyring.signing)
        #expect(rotated.keyring.keys.last == rig.first.keyring.signing && rotated.rotatingTo == nil)
        #expect(try await rig.sealingKeys(rotated.keyring) == [rotated.keyring.signing.id])
        for replica in [one, two] {
            try await eventually("a replica signs with the new key") {
                replica.keyring.signing == rotated.keyring.signing
            }
            #expect(replica.keyring.adminTokens.count == 2)
        }

        let retired = try await rig.rotation(retiring: true).run()
        #expect(retired.keyring == ClusterKeyring([rotated.keyring.signing]))
        #expect(try await rig.sealingKeys(retired.keyring) == [retired.keyring.signing.id])
        try await eventually("a replica drops the old key") { one.keyring == retired.keyring }
        // No key is left to retire, and none is added for that.
        let error = await #expect(throws: StoreError.self) { _ = try await rig.rotation(retiring: true).run() }
        #expect(error?.code == .refused && error?.reason.contains("no old key to retire") == true)
        #expect(try await rig.store.readCluster(mounted: nil)?.keyring == retired.keyring)
        #expect(try rig.store.volume.strayKeys(retired).isEmpty)
    }

    /// Deletes no key.
    private struct KeepingKeys: InterceptedFileSystem {
        let files: any FileSystem

        func intercept(_ call: FileFault.Call, _ path: String, _ access: FileAccess?) throws(FileFault) {
            if call == .unlink, path.hasPrefix("keys/") { throw FileFault(.unlink, path, EROFS) }
        }
    }

    @Test("An old key that cannot be deleted is an error that names its file, and the rotation is complete")
    func undeletedKey() async throws {
        let rig = try await Rig()
        defer { rig.stop() }
        let rotated = try await rig.rotation().run()
        let files = KeepingKeys(files: try PosixFileSystem(path: rig.folder.file("v2"), creating: false))
        let store = VolumeStore(volume: Volume(files: files))
        defer { store.close() }
        let old = rig.first.keyring.signing
        let events = Mutex<[KeyRotation.Event]>([])
        let error = await #expect(throws: StoreError.self) {
            let rotation = rig.rotation(of: store, retiring: true) { event in events.withLock { $0.append(event) } }
            _ = try await rotation.run()
        }
        #expect(error?.place == rig.folder.file("v2/keys/\(old.id)"))
        #expect(error?.reason.contains("delete the file") == true)
        #expect(!events.withLock { $0.contains(.retired(old.id)) })
        let after = try #require(try await rig.store.readCluster(mounted: nil))
        #expect(after.keyring == ClusterKeyring([rotated.keyring.signing]) && after.retiredKeys == [old.id])
        #expect(rig.folder.names("v2/keys").contains(old.id))
        // The file can be deleted now: the command is repeated, and knows which one it is.
        let repeated = try await rig.rotation(retiring: true) { event in events.withLock { $0.append(event) } }.run()
        #expect(events.withLock { $0.contains(.retired(old.id)) })
        #expect(rig.folder.names("v2/keys") == [rotated.keyring.signing.id] && repeated.retiredKeys == [])
    }

    @Test("A damaged old key stops no start, is named by a new rotation, and is retired once nothing needs it")
    func damagedOldKey() async throws {
        let rig = try await Rig()
        defer { rig.stop() }
        let rotated = try await rig.rotation().run()
        let old = rig.first.keyring.signing
        let file = rig.folder.write("v2/keys/\(old.id)", "damaged")
        let (other, cluster) = try await VolumeStore.openFounded(path: rig.folder.file("v2"), mounted: nil)
        defer { other.close() }
        #expect(cluster.keyring == ClusterKeyring([rotated.keyring.signing]))
        #expect(cluster.unusableKeys.map(\.id) == [old.id] && cluster.unusableKeys.first?.problem.place == file)
        #expect(try rig.store.volume.strayKeys(cluster).isEmpty)
        let error = await #expect(throws: StoreError.self) { _ = try await rig.rotation().run() }
        #expect(error?.place == file && error?.reason.contains("rotate-key --retire-old") == true)
        // A credential that only the old key has sealed is not given up.
        let key: StoreKey = "agents/late"
        let body = Array(#"{"id":"late"}"#.utf8)
        try await rig.store.write(
            key,
            .create(SealedDocument.seal(body, .credential, context: "\(key)/1", with: old))
        )
        let refusal = await #expect(throws: StoreError.self) { _ = try await rig.rotation(retiring: true).run() }
        #expect(refusal?.reason.contains("the old keys are kept") == true)
        #expect(try await rig.store.readCluster(mounted: nil)?.unusableKeys.map(\.id) == [old.id])
        try await rig.store.write(key, .remove(nil))
        let retired = try await rig.rotation(retiring: true).run()
        #expect(retired.unusableKeys == [] && retired.listedKeys == [rotated.keyring.signing.id])
        #expect(rig.folder.names("v2/keys") == [rotated.keyring.signing.id])
    }

    @Test("It waits for a live replica that does not know the key, reports its name, and continues when run again")
    func waiting() async throws {
        let rig = try await Rig()
        defer { rig.stop() }
        let slow = try await rig.startReplica("slow", observesRotation: false)
        let reported = Mutex<[String]>([])
        let reads = Mutex(0)
        rig.store.onOperation { operation, _ in if operation == .read { reads.withLock { $0 += 1 } } }
        do {
            _ = try await rig.rotation(timeout: .milliseconds(100)) { event in
                if case .waiting(let names) = event { reported.withLock { $0 += names } }
            }.run()
            Issue.record("it did not wait")
        } catch {
            #expect(error.code == .stalled && "\(error)".contains("slow"))
        }
        // It waits for 2.5 s, and reads cluster.json once a second.
        #expect(reads.withLock { $0 } < 10)
        let between = try #require(try await rig.store.readCluster(mounted: nil))
        #expect(between.keyring.signing == rig.first.keyring.signing && between.rotatingTo != nil)
        #expect(try await rig.sealingKeys(rig.first.keyring) == [rig.first.keyring.signing.id])

        let observer = Task { await slow.run { _ in } }
        defer { observer.cancel() }
        let done = try await rig.rotation().run()
        // The key of the first run is used, and no second one is added.
        #expect(done.keyring.signing == between.rotatingTo && done.keyring.keys.count == 2)
    }

    @Test("A replica that is silent is not waited for, and is named once")
    func silent() async throws {
        let rig = try await Rig()
        defer { rig.stop() }
        let lost = try #require(Incarnation("01ARZ3NDEKTSV4RRFFQ69G5FAV"))
        let key = rig.first.keyring.signing
        let info = ReplicaInfo(name: "lost", version: "test", keys: [key.id]).sealed(for: lost, with: key)
        let writer = JournalWriter(volume: rig.store.volume)
        try writer.begin(as: lost, info: info, now: rig.store.volume.now())
        let reported = Mutex<[String]>([])
        _ = try await rig.rotation { event in
            if case .notAwaited(let names, let silence) = event {
                #expect(silence >= .milliseconds(2_500))
                reported.withLock { $0 += names }
            }
        }.run()
        #expect(reported.withLock { $0 } == ["lost (\(lost))"])
    }

    @Test("Interrupted after any step, it continues from there and adds no second key")
    func interrupted() async throws {
        for steps in 1...4 {
            let rig = try await Rig(credentials: 5)
            defer { rig.stop() }
            var cluster = rig.first
            let volume = rig.store.volume
            let key = ClusterKey.generate()
            try await rig.store.createClusterKey(key)
            cluster = try cluster.adding(key)
            try await rig.store.replace(cluster)
            let new = try #require(cluster.rotatingTo)
            if steps >= 2 {
                cluster = try cluster.signing(with: new.id)
                try await rig.store.replace(cluster)
            }
            if steps >= 3 {
                let key: StoreKey = "agents/token1"
                let body = Array(#"{"id":"token1"}"#.utf8)
                let sealed = SealedDocument.seal(body, .credential, context: "\(key)/2", with: new)
                try volume.write(key, .replace(1, sealed))
            }
            if steps >= 4 {
                _ = try await rig.rotation().run()
                cluster = try #require(try await rig.store.readCluster(mounted: nil))
                // Finished, so the next one would be a new rotation; retiring is not.
                cluster = try await rig.rotation(retiring: true).run()
                #expect(cluster.keyring == ClusterKeyring([new]))
                continue
            }
            cluster = try await rig.rotation().run()
            #expect(cluster.keyring == ClusterKeyring([new, rig.first.keyring.signing]) && cluster.rotatingTo == nil)
            #expect(try await rig.sealingKeys(cluster.keyring) == [new.id])
            #expect(try volume.strayKeys(cluster).isEmpty)
        }
    }

    @Test("A rotation that cannot add its key leaves no file of it, however often it is repeated")
    func notAdded() async throws {
        let rig = try await Rig(credentials: 0)
        defer { rig.stop() }
        var cluster = rig.first
        while cluster.keyring.keys.count < 8 {
            let key = ClusterKey.generate()
            try await rig.store.createClusterKey(key)
            cluster = try cluster.adding(key)
            try await rig.store.replace(cluster)
            cluster = cluster.finishingRotation()
            try await rig.store.replace(cluster)
        }
        for _ in 0..<2 {
            let error = await #expect(throws: StoreError.self) { _ = try await rig.rotation().run() }
            #expect(error?.code == .tooLarge && error?.reason.contains("rotate-key --retire-old") == true)
        }
        #expect(try rig.store.volume.strayKeys(cluster).isEmpty)
    }

    @Test("Two concurrent runs perform one rotation")
    func twice() async throws {
        let rig = try await Rig(credentials: 20)
        defer { rig.stop() }
        let (other, _) = try await VolumeStore.openFounded(path: rig.folder.file("v2"), mounted: nil)
        defer { other.close() }
        async let one = rig.rotation().run()
        async let two = rig.rotation(of: other).run()
        let (first, second) = try await (one, two)
        let cluster = try #require(try await rig.store.readCluster(mounted: nil))
        #expect(cluster.rotatingTo == nil && cluster.keyring.keys.contains(rig.first.keyring.signing))
        #expect(first.id == second.id)
        #expect(try await rig.sealingKeys(cluster.keyring).count == 1)
    }

    @Test("A credential that no known key has sealed is reported and skipped; a removed one is ignored")
    func skipsForeign() async throws {
        let rig = try await Rig()
        defer { rig.stop() }
        try await rig.store.write("agents/forged", .create(Array("{}".utf8)))
        try await rig.store.write("agents/token0", .remove(nil))
        let skipped = Mutex<[StoreKey]>([])
        let count = Mutex(0)
        _ = try await rig.rotation { event in
            switch event {
            case .skipped(let key, _): skipped.withLock { $0.append(key) }
            case .resealed(let number): count.withLock { $0 += number }
            default: break
            }
        }.run()
        #expect(skipped.withLock { $0 } == ["agents/forged"] && count.withLock { $0 } == 2)
        #expect(try await rig.store.read("agents/forged").version == 1)
    }

    @Test(
        "No key is retired while a credential could not be sealed again; once it is repaired or revoked the old key is removed"
    )
    func unsealable() async throws {
        let rig = try await Rig()
        defer { rig.stop() }
        // A genuine credential that cannot be read now: it would be lost without the old key.
        let file = rig.folder.file("v2/agents/token1/1.json")
        #expect(chmod(file, 0o644) == 0)
        try await rig.store.write("agents/forged", .create(Array("{}".utf8)))
        func retire() async -> StoreError? {
            do throws(StoreError) {
                _ = try await rig.rotation(retiring: true).run()
                return nil
            } catch {
                return error
            }
        }
        _ = try await rig.rotation().run()
        for remedy in ["repair", "revoke"] {
            for _ in 0..<2 {
                let refusal = await retire()
                #expect(refusal?.code == .refused, "\(remedy)")
                #expect(refusal?.reason.contains("the old keys are kept") == true, "\(remedy)")
                #expect(refusal?.reason.contains("hopgate store remove agents/") == true, "\(remedy)")
                let cluster = try #require(try await rig.store.readCluster(mounted: nil))
                #expect(cluster.keyring.keys.last == rig.first.keyring.signing && cluster.keyring.keys.count == 2)
                #expect(cluster.rotatingTo == nil)
            }
            if remedy == "repair" {
                #expect(chmod(file, 0o600) == 0)
            } else {
                try await rig.store.write("agents/forged", .remove(nil))
            }
        }
        // The remedy is that of the store's check: a command only where it works.
        let later = rig.folder.write("v2/agents/token0/9.json", "HGV3 value")
        let newer = await retire()
        #expect(newer?.reason.contains("run the release that wrote it") == true)
        #expect(newer?.reason.contains("store remove") == false)
        unlink(later)
        mkfifo(rig.folder.file("v2/agents/pipe"), 0o600)
        let pipe = await retire()
        #expect(pipe?.reason.contains("move it away") == true && pipe?.reason.contains("store remove") == false)
        unlink(rig.folder.file("v2/agents/pipe"))
        #expect(await retire() == nil)
        let cluster = try #require(try await rig.store.readCluster(mounted: nil))
        #expect(cluster.keyring.keys.count == 1 && cluster.keyring.signing != rig.first.keyring.signing)
        #expect(try await rig.sealingKeys(cluster.keyring) == [cluster.keyring.signing.id])
    }

    @Test("With mounted keys the first of them seals everything again, also cluster.json")
    func mounted() async throws {
        let folder = ScratchFolder()
        defer { folder.remove() }
        let keys = (0..<2).map { _ in ClusterKey.generate() }
        let (store, cluster, _) = try await VolumeStore.open(path: folder.file("v2"), mounted: [keys[0]])
        defer { store.close() }
        let sealed = SealedDocument.seal(Array("{}".utf8), .credential, context: "agents/a/1", with: keys[0])
        try await store.write("agents/a", .create(sealed))
        let changed: @Sendable () throws(StoreError) -> [ClusterKey] = { () throws(StoreError) in [keys[1], keys[0]] }
        let done = try await KeyRotation(store: store, mounted: changed, options: .init(), report: { _ in }).run()
        #expect(done.id == cluster.id && done.sealedBy == keys[1].id)
        // The old key is no longer needed.
        #expect(try await store.readCluster(mounted: [keys[1]])?.id == cluster.id)
        #expect(SealedDocument.keyID(try await store.read("agents/a").bytes) == keys[1].id)
    }

    @Test("The next step of a change of mounted keys follows from the file and from cluster.json")
    func mountedSteps() async throws {
        let folder = ScratchFolder()
        defer { folder.remove() }
        let (old, new) = (ClusterKey.generate(), ClusterKey.generate())
        let (store, cluster, _) = try await VolumeStore.open(path: folder.file("v2"), mounted: [old])
        defer { store.close() }
        func change(_ keys: [ClusterKey]) async throws -> MountedKeyChange {
            MountedKeyChange(try #require(try await store.readCluster(mounted: keys)))
        }
        #expect(MountedKeyChange(cluster).step == .add)
        let added = try await change([old, new])
        #expect(added.step == .promote([new.id]) && added.keys == [old.id, new.id])
        #expect(try await change([new, old]).step == .reseal)
        let mounted: @Sendable () throws(StoreError) -> [ClusterKey] = { () throws(StoreError) in [new, old] }
        _ = try await KeyRotation(store: store, mounted: mounted, options: .init(), report: { _ in }).run()
        #expect(try await change([new, old]).step == .remove([old.id]))
        #expect(try await change([new]).step == .add)
        let third = ClusterKey.generate()
        #expect(try await change([new, third]).step == .promote([third.id]))
    }
}
