import ACME
import Certificates
import Files
import Foundation
import NIOCore
import Store
import Synchronization
import TestSupport
import Testing

@Suite("Certificates that are served")
struct ServedCertificatesTests {
    let scratch = ScratchFolder()

    private func files(_ test: TestCertificate, _ name: String = "") -> CertificateFiles {
        scratch.files(chain: test.chain, key: test.key, name)
    }

    private func open(
        _ files: [CertificateFiles] = [],
        store: any Store = VolumeStore.inMemory(),
        development: Bool = true,
        names: [String] = [],
        now: Date = Date(),
        check: @escaping CertificateCheck = { _ in }
    ) async throws -> ServedCertificates {
        try await ServedCertificates.open(
            ServedCertificates.Settings(files: files, usesDevelopmentCA: development, names: names, check: check),
            store: store.certificates,
            now: now
        )
    }

    /// Runs it for the time of `body`.
    private func running(
        _ served: ServedCertificates,
        _ body: (_ changes: @Sendable () -> Int, _ problems: @Sendable () -> [CertificatesError]) async throws -> Void
    ) async throws {
        let counted = Mutex((changes: 0, problems: [CertificatesError]()))
        let task = Task {
            await served.run(
                onChange: { _ in counted.withLock { $0.changes += 1 } },
                onProblem: { problem in counted.withLock { $0.problems.append(problem) } }
            )
        }
        defer { task.cancel() }
        try await body({ counted.withLock { $0.changes } }, { counted.withLock { $0.problems } })
    }

    // MARK: Sources and precedence

    @Test("Files are stronger than the store, and the store than the development CA, name by name")
    func precedence() async throws {
        let store = VolumeStore.inMemory()
        let filed = try TestCertificate(["both.test", "filed.test"])
        let stored = try TestCertificate(["both.test", "stored.test"])
        try await publish(stored, as: "certs/stored.test", in: store)
        let served = try await open([files(filed)], store: store, names: ["both.test", "stored.test", "route.test"])
        let snapshot = served.snapshot
        #expect(snapshot.select(serverName: "both.test").names == names(filed))
        #expect(snapshot.select(serverName: "filed.test").names == names(filed))
        #expect(snapshot.select(serverName: "stored.test").names == names(stored))
        let leaf = snapshot.select(serverName: "route.test")
        #expect(leaf.names.contains(.dns("route.test")) && leaf.names.contains(.dns("localhost")))
        #expect(!leaf.names.contains(.dns("both.test")) && !leaf.names.contains(.dns("stored.test")))
        #expect(snapshot.fallback.names == names(filed))
    }

    @Test("Without files the first certificate of the store is the fallback, else the development leaf")
    func fallback() async throws {
        let store = VolumeStore.inMemory()
        let development = try await open(store: store)
        #expect(development.snapshot.fallback.names.contains(.dns("localhost")))
        for name in ["b.test", "a.test"] {
            try await publish(try TestCertificate([name]), as: try #require(CertificateName(name)).storeKey, in: store)
        }
        let served = try await open(store: store)
        #expect(served.snapshot.fallback.names == [.dns("a.test")])
        #expect(served.snapshot.select(serverName: "localhost").names.contains(.dns("localhost")))
    }

    @Test("A name that a wildcard of another source covers leaves the development leaf, and comes back without it")
    func wildcards() async throws {
        let store = VolumeStore.inMemory()
        let served = try await open(store: store, names: ["one.app.test"])
        #expect(served.snapshot.fallback.names.contains(.dns("one.app.test")))
        try await running(served) { _, _ in
            let wildcard = try TestCertificate(["*.app.test"])
            let key: StoreKey = "certs/_wildcard.app.test"
            try await publish(wildcard, as: key, in: store)
            try await eventually { served.snapshot.select(serverName: "one.app.test").names == names(wildcard) }
            try await store.write(key, .remove(nil))
            try await eventually {
                served.snapshot.select(serverName: "one.app.test").names.contains(.dns("localhost"))
            }
            #expect(served.snapshot.certificates.count == 1)
        }
    }

    @Test("With no certificate and no development CA the error of the start names the remedy")
    func nothing() async throws {
        let error = await #expect(throws: CertificatesError.self) { try await open(development: false) }
        #expect(error?.code == .missing)
        #expect(error?.reason.contains("hopgate cert import") == true)
    }

    @Test("The last certificate stays served even when it is removed from the store")
    func lastOne() async throws {
        let store = VolumeStore.inMemory()
        let only = try TestCertificate(["only.test"])
        try await publish(only, as: "certs/only.test", in: store)
        let served = try await open(store: store, development: false)
        try await running(served) { _, _ in
            try await store.write("certs/only.test", .remove(nil))
            try await eventually { served.statuses.isEmpty }
            #expect(served.snapshot.fallback.names == names(only))
        }
        await #expect(throws: CertificatesError.self) { try await open(store: store, development: false) }
    }

    @Test("The pin for agents is the development root's where that CA answers for their host")
    func pin() async throws {
        let store = VolumeStore.inMemory()
        let alone = try await open(store: store)
        let pin = try #require(alone.developmentRoot?.certificateSHA256)
        #expect(alone.tunnelPin(hosts: []) == pin && alone.tunnelPin(hosts: ["gw.test", "10.0.0.1"]) == pin)
        try await publish(try TestCertificate(["gw.test", "*.wild.test"]), as: "certs/gw.test", in: store)
        let mixed = try await open(store: store)
        for hosts in [["other.test"], ["10.0.0.1", "other.test"], ["::1"], []] {
            #expect(mixed.tunnelPin(hosts: hosts) == pin, "\(hosts)")
        }
        for hosts in [["gw.test"], ["a.wild.test"], ["other.test", "gw.test"], ["10.0.0.1", "gw.test"]] {
            #expect(mixed.tunnelPin(hosts: hosts) == nil, "\(hosts)")
        }
        #expect(try await open(store: store, development: false).tunnelPin(hosts: ["other.test"]) == nil)
    }

    @Test("Agents that connect to an address are served by the development CA, which covers all addresses")
    func addresses() async throws {
        let store = VolumeStore.inMemory()
        let alone = try await open(store: store, names: ["10.0.0.1"])
        #expect(alone.snapshot.forAddresses === alone.snapshot.fallback)
        try await publish(try TestCertificate(["gw.test", "10.0.0.1"]), as: "certs/gw.test", in: store)
        let mixed = try await open(store: store, names: ["10.0.0.1"])
        let (leaf, stored) = (mixed.snapshot.forAddresses, mixed.snapshot.fallback)
        #expect(leaf.issuer == alone.snapshot.fallback.issuer && leaf.names.contains(.address("10.0.0.1")))
        #expect(mixed.snapshot.selectForAgent(serverName: nil) === leaf)
        #expect(mixed.snapshot.selectForAgent(serverName: "") === leaf)
        #expect(mixed.snapshot.select(serverName: nil) === stored && stored.names.contains(.dns("gw.test")))
        #expect(mixed.snapshot.selectForAgent(serverName: "gw.test") === stored)
        let off = try await open(store: store, development: false)
        #expect(off.snapshot.selectForAgent(serverName: nil) === off.snapshot.fallback)
    }

    // MARK: Last good

    @Test("A torn or bad pair of files keeps the last good certificate and is reported once", .timeLimit(.minutes(2)))
    func lastGoodFile() async throws {
        let first = try TestCertificate(["first.test"])
        let second = try TestCertificate(["second.test"])
        let served = try await open([files(first)], development: false)
        try await running(served) { changes, problems in
            // The certificate is new, the key is still the old one.
            _ = scratch.write("chain.pem", second.chain)
            try await eventually { problems().map(\.code) == [.keyMismatch] }
            #expect(served.snapshot.fallback.names == names(first))
            #expect(served.statuses.map(\.problem?.code) == [.keyMismatch])
            _ = scratch.write("key.pem", second.key)
            try await eventually { served.snapshot.fallback.names == names(second) }
            #expect(served.statuses.map(\.problem) == [nil])
            try FileManager.default.removeItem(atPath: scratch.file("key.pem"))
            try await eventually { problems().map(\.code) == [.keyMismatch, .file(.notFound)] }
            #expect(served.snapshot.select(serverName: "second.test").names == names(second))
            // Mended with the same bytes: nothing changes, and a later problem is reported again.
            _ = scratch.write("key.pem", second.key)
            try await eventually { served.statuses.map(\.problem) == [nil] }
            _ = scratch.write("key.pem", first.key)
            try await eventually { problems().count == 3 }
            #expect(changes() == 1)
        }
    }

    @Test("Bad files are an error at start; a command reports them instead")
    func badAtStart() async throws {
        let bad = files(try TestCertificate(["first.test"]))
        _ = scratch.write("key.pem", "nothing")
        await #expect(throws: CertificatesError.self) { try await open([bad]) }
        let settings = ServedCertificates.Settings(files: [bad], usesDevelopmentCA: false)
        let inspected = try await ServedCertificates.inspect(settings, store: VolumeStore.inMemory().certificates)
        #expect(inspected.statuses.map(\.problem?.code) == [.malformed])
    }

    @Test("A bad document in the store keeps the last good one, is reported once, and the next good one is served")
    func lastGood() async throws {
        let store = VolumeStore.inMemory()
        let first = try TestCertificate(["a.test"])
        let second = try TestCertificate(["a.test", "b.test"])
        try await publish(first, as: "certs/a.test", in: store)
        let served = try await open(store: store, development: false)
        try await running(served) { _, problems in
            try await plant(chain: second.chain, key: first.key, at: "certs/a.test", in: store)
            try await eventually { problems().map(\.code) == [.keyMismatch] }
            #expect(served.snapshot.fallback.names == names(first))
            #expect(served.statuses.first?.state(now: Date()).contains("key does not fit") == true)
            try await store.put("certs/a.test", Array("{}".utf8))
            try await eventually { served.statuses.first?.problem?.code == .store(.corrupt) }
            #expect(served.snapshot.fallback.names == names(first))
            try await publish(second, as: "certs/a.test", in: store)
            try await eventually { served.snapshot.fallback.names == names(second) }
            #expect(served.statuses.map(\.problem) == [nil])
        }
    }

    @Test(
        "A start serves the version before one that cannot be used, unless it has expired or was removed",
        arguments: ["damaged", "foreign", "no document"]
    )
    func earlierVersion(_ damage: String) async throws {
        let store = try scratch.store()
        defer { store.close() }
        let (good, late) = (try TestCertificate(["a.test"]), try TestCertificate(["b.test"], hours: -278...(-254)))
        try await publish(good, as: "certs/a.test", in: store)
        try await publish(late, as: "certs/b.test", in: store)
        try await publish(good, as: "certs/c.test", in: store)
        try await store.write("certs/c.test", .remove(nil))
        for key in ["certs/a.test", "certs/b.test", "certs/c.test"] as [StoreKey] {
            switch damage {
            case "foreign":
                let foreign = CertificateSet(store) { ClusterKeyring([.generate()]) }
                let certificate = try TestCertificate(["new.test"]).loaded()
                _ = try await foreign.withLease(of: key) { lease throws(StoreError) in
                    try await foreign.write(certificate, as: key, origin: "import", under: lease)
                }
            default:
                let version = try await publish(try TestCertificate(["new.test"]), as: key, in: store)
                let file = URL(fileURLWithPath: scratch.file("v2/\(key)/\(version).json"))
                try Data(Data(contentsOf: file).dropLast(damage == "damaged" ? 1 : .max)).write(to: file)
                #expect(chmod(file.path, 0o600) == 0)
            }
        }
        let served = try await open(store: store)
        #expect(served.snapshot.certificates.map(\.names).contains(names(good)))
        #expect(served.snapshot.certificates.count == 2)
        let reasons = served.statuses.map { $0.problem?.reason ?? "" }
        #expect(reasons[0].hasSuffix("; version 1 is served") && !reasons[1].contains("served"), "\(reasons)")
        #expect(served.statuses.prefix(3).map(\.version) == [1, nil, nil])
        // A command that asks for one name shows the same.
        let settings = ServedCertificates.Settings(files: [], usesDevelopmentCA: false)
        let name = try #require(CertificateName("a.test"))
        let certificates = store.certificates
        let shown = try await ServedCertificates.inspect("certs/a.test", for: name, settings, store: certificates)
        #expect(shown?.certificate?.names == names(good) && shown?.version == 1)
        #expect(shown?.problem?.reason.hasSuffix("; version 1 is served") == true)
        // A new version is served, and nothing is wrong with it.
        let new = try TestCertificate(["a.test", "more.test"])
        try await running(served) { _, _ in
            try await publish(new, as: "certs/a.test", in: store)
            try await eventually { served.snapshot.select(serverName: "more.test").names == names(new) }
            #expect(served.statuses[0].problem == nil)
        }
    }

    @Test("A start waits once for the earlier versions of all certificates that cannot be used")
    func hangingEarlierVersions() async throws {
        let writer = try scratch.store()
        defer { writer.close() }
        let good = try TestCertificate(["a.test"])
        try await publish(good, as: "certs/z.test", in: writer)
        for index in 0..<40 {
            let key = try StoreKey("certs/\(index).test")
            for chain in ["first", "second"] { try await plant(chain: chain, key: "", at: key, in: writer) }
        }
        let (store, files) = try scratch.observedStore()
        defer { store.close() }
        defer { files.hang(after: nil) }
        files.hang(after: 41)
        var settings = ServedCertificates.Settings(files: [], usesDevelopmentCA: false)
        settings.patience = .seconds(2)
        let opening = Task { [settings] in
            try await ServedCertificates.open(settings, store: store.certificates)
        }
        let isOpen = Mutex(false)
        let waiting = Task {
            _ = try await opening.value
            isOpen.withLock { $0 = true }
        }
        try await eventually("the start ends", within: .seconds(30)) { isOpen.withLock { $0 } }
        try await waiting.value
        #expect(try await opening.value.snapshot.fallback.names == names(good))
    }

    @Test("A change by hand takes a lease that lives as long as is configured")
    func leaseTime() async throws {
        let volume = try scratch.volume()
        let store = VolumeStore(volume: volume)
        defer { store.close() }
        let set = CertificateSet(store, leaseTime: .seconds(42)) { testKeyring }
        try await set.withLease(of: "certs/a.test") { _ throws(StoreError) in
            #expect(volume.leases(until: .distantFuture).found.map(\.timeToLive) == [.seconds(42)])
        }
    }

    @Test("The volume holds the keys of two versions at most, and none of a removed certificate")
    func keysOnVolume() async throws {
        let store = try scratch.store()
        defer { store.close() }
        let tests = try (0..<5).map { _ in try TestCertificate(["a.test"]) }
        /// The certificates whose private key is anywhere on the volume.
        func found() throws -> [Int] {
            let folder = URL(fileURLWithPath: scratch.file("v2"))
            let files = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)?.allObjects ?? []
            let contents = files.compactMap { ($0 as? URL).flatMap { try? Data(contentsOf: $0) } }
            return tests.indices.filter { index in
                // A line of the key as it is in JSON.
                let line = Data(tests[index].key.split(separator: "\n")[1].replacing("/", with: "\\/").utf8)
                let plain = Data(tests[index].key.split(separator: "\n")[1].utf8)
                return contents.contains { $0.range(of: plain) != nil || $0.range(of: line) != nil }
            }
        }
        for (index, test) in tests.enumerated() {
            try await publish(test, as: "certs/a.test", in: store)
            #expect(try found() == (index == 0 ? [0] : [index - 1, index]))
        }
        try await store.certificates.withLease(of: "certs/a.test") { lease throws(StoreError) in
            try await store.certificates.remove("certs/a.test", under: lease)
        }
        #expect(try found() == [])
    }

    @Test("A document that another key sealed, or that belongs to another name, is not served")
    func forged() async throws {
        let store = VolumeStore.inMemory()
        let test = try TestCertificate(["a.test"])
        let other = ClusterKeyring([.generate()])
        let foreign = CertificateSet(store) { other }
        let certificate = try test.loaded()
        _ = try await foreign.withLease(of: "certs/a.test") { lease throws(StoreError) in
            try await foreign.write(certificate, as: "certs/a.test", origin: "import", under: lease)
        }
        try await publish(test, as: "certs/b.test", in: store)
        try await store.put("certs/c.test", try await store.read("certs/b.test").bytes)
        let served = try await open(store: store, development: false)
        #expect(served.snapshot.certificates.count == 1)
        #expect(served.statuses.map(\.problem?.code) == [.store(.foreign), nil, .store(.corrupt)])
    }

    @Test("A certificate that the TLS library refuses is not served from any source")
    func refused() async throws {
        struct Weak: Error {}
        let check: CertificateCheck = { if $0.names.contains(.dns("weak.test")) { throw Weak() } }
        let store = VolumeStore.inMemory()
        try await publish(try TestCertificate(["weak.test"]), as: "certs/a.test", in: store)
        try await publish(try TestCertificate(["weak.test"]), as: "certs/weak.test", in: store)
        let served = try await open(store: store, check: check)
        #expect(served.snapshot.certificates.allSatisfy { !$0.names.contains(.dns("weak.test")) })
        #expect(served.statuses.compactMap(\.problem?.code) == [.unsupported, .unsupported])
        await #expect(throws: CertificatesError.self) {
            try await open([files(try TestCertificate(["weak.test"]))], check: check)
        }
    }

    @Test("An expired certificate is served nevertheless")
    func expired() async throws {
        let store = VolumeStore.inMemory()
        let old = try TestCertificate(["old.test"], hours: -278...(-254))
        try await publish(old, as: "certs/old.test", in: store)
        let served = try await open(store: store)
        #expect(served.snapshot.select(serverName: "old.test").names == names(old))
        #expect(served.statuses.first?.state(now: Date()) == "expired")
    }

    // MARK: Time

    @Test("New files, and new certificates of another process on the same folder, are served within 2.5 s")
    func timely() async throws {
        let served = try await open([files(try TestCertificate(["first.test"]))], store: try scratch.store())
        try await running(served) { _, _ in
            var start = ContinuousClock.now
            _ = files(try TestCertificate(["second.test"]))
            try await eventually { served.snapshot.fallback.names == [.dns("second.test")] }
            #expect(ContinuousClock.now - start < .milliseconds(2_500))
            let other = try scratch.store()
            defer { other.close() }
            start = ContinuousClock.now
            try await publish(try TestCertificate(["new.test"]), as: "certs/new.test", in: other)
            try await eventually { served.snapshot.select(serverName: "new.test").names == [.dns("new.test")] }
            #expect(ContinuousClock.now - start < .milliseconds(2_500))
        }
    }

    @Test("A certificate that is written again as it was is no change")
    func sameAgain() async throws {
        let store = VolumeStore.inMemory()
        let (test, other) = (try TestCertificate(["same.test"]), try TestCertificate(["other.test"]))
        try await publish(test, as: "certs/same.test", in: store)
        let served = try await open(store: store, development: false)
        let before = served.snapshot
        try await running(served) { changes, _ in
            let version = try await publish(test, as: "certs/same.test", in: store)
            try await eventually { served.statuses.first?.version == version }
            try await publish(other, as: "certs/other.test", in: store)
            try await eventually { served.snapshot.certificates.count == 2 }
            try await eventually { changes() > 0 }
            #expect(changes() == 1)
            #expect(served.snapshot.names(changedSince: before) == ["other.test"])
        }
    }

    @Test("A certificate whose folder was deleted by hand is served no more")
    func deletedByHand() async throws {
        let store = try scratch.store()
        defer { store.close() }
        try await publish(try TestCertificate(["gone.test"]), as: "certs/gone.test", in: store)
        let served = try await open(store: store)
        #expect(served.snapshot.certificates.count == 2)
        try await running(served) { changes, _ in
            // The watch is under way.
            try await publish(try TestCertificate(["gone.test"]), as: "certs/gone.test", in: store)
            try await eventually { changes() == 1 }
            try FileManager.default.removeItem(atPath: scratch.file("v2/certs/gone.test"))
            try await eventually { served.snapshot.certificates.count == 1 }
        }
    }

    @Test("Certificates that all went away at once stay served: the volume is another one")
    func goneAtOnce() async throws {
        let keys = ["certs/a.test", "certs/b.test"]
        let store = try await VolumeStore.open(path: scratch.file("v2"), mounted: nil).store
        defer { store.close() }
        for name in ["a.test", "b.test", "c.test"] {
            try await publish(try TestCertificate([name]), as: try #require(CertificateName(name)).storeKey, in: store)
        }
        let served = try await open(store: store)
        #expect(served.snapshot.certificates.count == 4)
        try await running(served) { changes, _ in
            // The watch is under way, and one that is deleted beside others does go.
            try await publish(try TestCertificate(["c.test"]), as: "certs/c.test", in: store)
            try await eventually { changes() == 1 }
            try FileManager.default.removeItem(atPath: scratch.file("v2/certs/c.test"))
            try await eventually { served.snapshot.certificates.count == 3 }
            // An empty volume in the place of the one before.
            try FileManager.default.moveItem(atPath: scratch.file("v2"), toPath: scratch.file("before"))
            for folder in ["v2", "v2/certs"] { #expect(mkdir(scratch.file(folder), 0o700) == 0) }
            try await eventually { store.diagnostics.watchFailure?.code == .gone }
            #expect(served.snapshot.certificates.count == 3)
            for name in ["a.test", "b.test"] {
                #expect(served.snapshot.select(serverName: name).names == [.dns(name)])
            }
            #expect(served.statuses.filter { keys.contains($0.place) && $0.certificate != nil }.count == 2)
            try FileManager.default.removeItem(atPath: scratch.file("v2"))
            try FileManager.default.moveItem(atPath: scratch.file("before"), toPath: scratch.file("v2"))
            try await eventually { store.diagnostics.watchFailure == nil }
            #expect(served.snapshot.certificates.count == 3)
        }
    }

    @Test("A certificate that others may read is refused until its modes are mended")
    func modes() async throws {
        let store = try scratch.store()
        defer { store.close() }
        try await publish(try TestCertificate(["open.test"]), as: "certs/open.test", in: store)
        let key = scratch.file("v2/certs/open.test/1.json")
        #expect(chmod(key, 0o644) == 0)
        let served = try await open(store: store)
        #expect(served.statuses.first?.problem?.code == .store(.refused))
        #expect(served.snapshot.certificates.count == 1)
        try await running(served) { _, problems in
            try await eventually { problems().map(\.code) == [.store(.refused)] }
            #expect(chmod(key, 0o600) == 0)
            try await eventually { served.snapshot.certificates.count == 2 }
        }
    }

    // MARK: Swaps

    @Test("Look-ups during swaps always see a whole certificate")
    func swaps() async throws {
        let tests = [try TestCertificate(["a.test"]), try TestCertificate(["b.test"])]
        let store = VolumeStore.inMemory()
        try await publish(tests[0], as: "certs/x.test", in: store)
        let served = try await open(store: store, development: false)
        try await running(served) { changes, _ in
            let torn = Atomic(0)
            let reader = Busy {
                let seen = served.snapshot.fallback
                let index = seen.names == [.dns("a.test")] ? 0 : 1
                if seen.chainPEM != Array(tests[index].chain.utf8) { torn.add(1, ordering: .relaxed) }
            }
            for round in 1...200 {
                try await publish(tests[round % 2], as: "certs/x.test", in: store)
                try await eventually { served.snapshot.fallback.names == names(tests[round % 2]) }
            }
            try await eventually { changes() == 200 }
            #expect(reader.stop() > 1_000)
            #expect(torn.load(ordering: .relaxed) == 0)
        }
    }

    @Test("A mounted secret that is swapped while it is read never gives a torn pair", .timeLimit(.minutes(2)))
    func secretSwaps() async throws {
        let tests = [try TestCertificate(["a.test"]), try TestCertificate(["b.test"])]
        for (index, test) in tests.enumerated() {
            try FileManager.default.createDirectory(
                atPath: scratch.file("..v\(index)"),
                withIntermediateDirectories: true
            )
            _ = scratch.write("..v\(index)/tls.crt", test.chain, mode: 0o644)
            _ = scratch.write("..v\(index)/tls.key", test.key, mode: 0o644)
        }
        scratch.link("..data", to: "..v0")
        scratch.link("tls.crt", to: "..data/tls.crt")
        scratch.link("tls.key", to: "..data/tls.key")
        let path = scratch.path
        let round = Atomic(0)
        let swapper = Busy {
            let version = round.add(1, ordering: .relaxed).newValue % 2
            symlink("..v\(version)", path + "/..data_tmp")
            rename(path + "/..data_tmp", path + "/..data")
        }
        let mounted = CertificateFiles(certificate: scratch.file("tls.crt"), key: scratch.file("tls.key"))
        var seen: Set<CertificateName> = []
        var loads = 0
        while loads < 2_000 || round.load(ordering: .relaxed) <= 100 {
            seen.formUnion(try mounted.load().names)
            loads += 1
        }
        _ = swapper.stop()
        #expect(seen == [.dns("a.test"), .dns("b.test")])
    }
}
