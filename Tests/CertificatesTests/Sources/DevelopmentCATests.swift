import ACME
import Certificates
import Formats
import Foundation
import NIOCore
import Store
import SwiftASN1
import Synchronization
import TestSupport
import Testing
import X509

@Suite("The development CA")
struct DevelopmentCATests {
    let scratch = ScratchFolder()
    let root: StoreKey = "certs/development-ca"

    private func open(_ store: any Store, names: [String] = [], now: Date = Date()) async throws -> ServedCertificates {
        let settings = ServedCertificates.Settings(files: [], usesDevelopmentCA: true, names: names)
        return try await ServedCertificates.open(settings, store: store.certificates, now: now)
    }

    @Test("The first start makes it, the second one reads it")
    func madeOnce() async throws {
        let store = try scratch.store()
        defer { store.close() }
        #expect(try await DevelopmentRoot.read(in: store.certificates) == nil)
        let first = try await DevelopmentRoot.obtain(in: store.certificates)
        let other = try scratch.store()
        defer { other.close() }
        let second = try await DevelopmentRoot.obtain(in: other.certificates)
        #expect(first.fingerprint == second.fingerprint && first.version == second.version)
        #expect(first.pin == "sha256:" + first.fingerprint)
        let folder = "v2/certs/development-ca"
        #expect(scratch.names(folder) == ["1.json"] && scratch.mode("\(folder)/1.json") == 0o600)
        #expect(!String(decoding: first.certificatePEM, as: UTF8.self).contains("PRIVATE"))
    }

    @Test("In memory it is the same")
    func memory() async throws {
        let store = VolumeStore.inMemory()
        let first = try await DevelopmentRoot.obtain(in: store.certificates)
        #expect(try await DevelopmentRoot.obtain(in: store.certificates).pin == first.pin)
    }

    @Test("Eight that start at once on an empty store end with one root, published once", arguments: 1...10)
    func race(_ round: Int) async throws {
        let stores = try (0..<8).map { _ in try scratch.store() }
        defer { stores.forEach { $0.close() } }
        let pins = try await withThrowingTaskGroup(of: String.self) { group in
            for store in stores {
                group.addTask { try await DevelopmentRoot.obtain(in: store.certificates).pin }
            }
            return try await group.reduce(into: [String]()) { $0.append($1) }
        }
        #expect(pins.count == 8 && Set(pins).count == 1)
        #expect(scratch.names("v2/certs/development-ca").count == 1)
    }

    @Test("A process that was killed while it made the root delays the others by its time to live at most")
    func killedHolder() async throws {
        let dead = try scratch.volume()
        var options = LeaseOptions(guards: [root])
        options.timeToLive = .seconds(4)
        let candidate = LeaseCandidate(volume: dead, lease: root, options: options, name: "dead")
        let holder = try #require(try candidate.acquire(1))
        let store = try scratch.store()
        defer { withExtendedLifetime(holder) { store.close() } }
        let start = ContinuousClock.now
        _ = try await DevelopmentRoot.obtain(in: store.certificates)
        // The limit tells it from a lease of the standard length, also on a machine that is busy.
        #expect(ContinuousClock.now - start < .seconds(14))
    }

    @Test("A replica that waits for the lease uses the root as soon as it exists")
    func readWhileWaiting() async throws {
        let holder = try scratch.store()
        let store = try scratch.store()
        defer { [holder, store].forEach { $0.close() } }
        let lease = try await holder.certificates.lease(of: root) { $0.timeToLive = .minutes(1) }
        let isReported = Mutex(false)
        var certificates = store.certificates
        certificates.onWait = { _ in isReported.withLock { $0 = true } }
        async let waiting = DevelopmentRoot.obtain(in: certificates)
        try await eventually("the wait is reported") { isReported.withLock { $0 } }
        let pair = try TestCertificate(["root"])
        _ = try await holder.certificates.write(try pair.loaded(), as: root, origin: "development-ca", under: lease)
        #expect(try await waiting.fingerprint == Hex.string(try pair.loaded().leafSHA256))
        #expect(lease.isHeld)
    }

    @Test("openssl verifies the leaf for each kind of name, and agrees on the fingerprint")
    func openssl() async throws {
        let store = try scratch.store()
        defer { store.close() }
        let served = try await open(store, names: ["App.Test", "*.wild.test", "10.1.2.3"])
        let authority = try #require(served.developmentRoot)
        let path = scratch.write("root.pem", authority.certificatePEM)
        let leaf = scratch.write("leaf.pem", served.snapshot.fallback.chainPEM)
        func verify(_ arguments: [String]) throws -> ExternalProgram.Result {
            try ExternalProgram.runBlocking(
                ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", path] + arguments + [leaf]
            )
        }
        for name in ["localhost", "app.test", "one.wild.test"] {
            let result = try verify(["-verify_hostname", name])
            #expect(result.status == 0, "\(name): \(result.output)")
        }
        for address in ["127.0.0.1", "::1", "10.1.2.3"] {
            let result = try verify(["-verify_ip", address])
            #expect(result.status == 0, "\(address): \(result.output)")
        }
        #expect(try verify(["-verify_hostname", "other.test"]).status != 0)
        let printed = try ExternalProgram.runBlocking([
            "openssl", "x509", "-in", path, "-noout", "-fingerprint", "-sha256",
        ])
        let digits = printed.output.drop { $0 != "=" }.dropFirst().filter { $0 != ":" && !$0.isWhitespace }
        #expect(digits.lowercased() == authority.fingerprint)
    }

    @Test("The chain that is served is the leaf and then the root")
    func chain() async throws {
        let served = try await open(VolumeStore.inMemory())
        let text = String(decoding: served.snapshot.fallback.chainPEM, as: UTF8.self)
        let root = try #require(served.developmentRoot).certificatePEM
        #expect(text.components(separatedBy: "BEGIN CERTIFICATE").count == 3)
        #expect(text.hasSuffix(String(decoding: root, as: UTF8.self)))
        try served.snapshot.fallback.requireOrder()
    }

    @Test("Root and leaf begin a day in the past and last ten years and 90 days")
    func dates() async throws {
        let now = Date(timeIntervalSince1970: 1_800_000_000)
        let served = try await open(VolumeStore.inMemory(), now: now)
        let leaf = served.snapshot.fallback
        let pem = String(decoding: try #require(served.developmentRoot).certificatePEM, as: UTF8.self)
        let root = try Certificate(pemEncoded: pem)
        #expect(root.notValidBefore == now - 86_400)
        #expect(root.notValidAfter == now + 3_650 * 86_400)
        #expect(leaf.notValidBefore == 1_800_000_000 - 86_400)
        #expect(leaf.notValidAfter == 1_800_000_000 + 90 * 86_400)
    }

    @Test("The leaf is issued again when a third of its life is left; the root stays")
    func renewal() async throws {
        let start = Date()
        let served = try await open(VolumeStore.inMemory(), now: start)
        let first = served.snapshot.fallback
        let root = served.developmentRoot?.pin
        served.rebuild(now: start + 59 * 86_400)
        #expect(served.snapshot.fallback === first)
        served.rebuild(now: start + 61 * 86_400)
        #expect(served.snapshot.fallback !== first)
        #expect(served.snapshot.fallback.notValidAfter > first.notValidAfter)
        #expect(served.developmentRoot?.pin == root)
    }

    @Test("A host that an agent serves enters the leaf at once, also on a volume that takes no writes")
    func readOnlyVolume() async throws {
        let store = try scratch.store()
        let pin = try await DevelopmentRoot.obtain(in: store.certificates).pin
        store.close()
        let files = ReadOnlyFileSystem(files: try PosixFileSystem(path: scratch.file("v2"), creating: false))
        let readOnly = VolumeStore(volume: Volume(files: files))
        defer { readOnly.close() }
        let served = try await open(readOnly, names: ["route.test"])
        let task = Task { await served.run(onChange: { _ in }, onProblem: { _ in }) }
        defer { task.cancel() }
        served.cover(names: ["agent.test", "not a name"])
        try await eventually(within: .seconds(5)) { served.snapshot.fallback.names.contains(.dns("agent.test")) }
        #expect(served.snapshot.fallback.names.contains(.dns("route.test")))
        #expect(served.developmentRoot?.pin == pin)
    }

    @Test("A leaf has at most 256 names; names that others cover take no room")
    func nameLimit() async throws {
        let store = VolumeStore.inMemory()
        try await publish(try TestCertificate(["*.covered.test"]), as: "certs/_wildcard.covered.test", in: store)
        let served = try await open(store)
        served.cover(names: (0..<1_000).map { "a\($0).covered.test" })
        served.cover(names: ["new.test"])
        served.rebuild()
        #expect(served.snapshot.select(serverName: "new.test").names.contains(.dns("new.test")))
        served.cover(names: (0..<5_000).map { "b\($0).test" })
        served.rebuild()
        #expect(served.snapshot.select(serverName: "new.test").names.count == 256)
    }

    @Test("A damaged root stops the start, names the remedy and is left as it is")
    func damagedRoot() async throws {
        let store = try scratch.store()
        defer { store.close() }
        let made = try await DevelopmentRoot.obtain(in: store.certificates)
        let key = "v2/certs/development-ca/1.json"
        let edited = scratch.read(key).map { $0 == UInt8(ascii: "A") ? UInt8(ascii: "B") : $0 }
        for bytes in [[], made.certificatePEM, [0xFF, 0x00], storedFile(Array("{}".utf8)), edited] {
            scratch.write(key, bytes)
            let error = await #expect(throws: CertificatesError.self) { try await open(store) }
            #expect(error?.path == "certs/development-ca")
            #expect(error?.reason.hasSuffix("which every client has to be told to trust: hopgate ca --replace") == true)
            #expect(scratch.read(key) == bytes)
        }
        try FileManager.default.removeItem(atPath: scratch.file("v2/certs/development-ca"))
        let new = try await open(store)
        #expect(new.developmentRoot?.pin != made.pin)
    }

    @Test("A root whose folder is refused has the remedy for the folder, without the command that it refuses, too")
    func refusedRoot() async throws {
        let store = try scratch.store()
        defer { store.close() }
        let made = try await DevelopmentRoot.obtain(in: store.certificates)
        func reason() async -> String {
            let error = await #expect(throws: CertificatesError.self) { try await open(store) }
            return error?.reason ?? ""
        }
        let folder = scratch.file("v2/certs/development-ca")
        #expect(chmod(folder, 0o755) == 0)
        let ofFolder = await reason()
        #expect(ofFolder.contains("chmod 700") && !ofFolder.contains("ca --replace"), "\(ofFolder)")
        #expect(chmod(folder, 0o700) == 0)
        // A new version can follow one that is refused.
        #expect(chmod("\(folder)/1.json", 0o644) == 0)
        let ofVersion = await reason()
        #expect(ofVersion.contains("chmod 600") && ofVersion.hasSuffix("hopgate ca --replace"), "\(ofVersion)")
        let replaced = try await DevelopmentRoot.replace(in: store.certificates)
        #expect(try await open(store).developmentRoot?.pin == replaced.root.pin && replaced.root.pin != made.pin)
    }

    @Test("With other certificates the start continues without a root, which is used once it exists")
    func laterRoot() async throws {
        let store = VolumeStore.inMemory()
        let lease = try await store.certificates.lease(of: root)
        try await store.write(root, .create([]))
        let filed = try TestCertificate(["filed.test"])
        let files = scratch.files(chain: filed.chain, key: filed.key)
        let settings = ServedCertificates.Settings(files: [files], usesDevelopmentCA: true)
        let served = try await ServedCertificates.open(settings, store: store.certificates)
        #expect(served.snapshot.certificates.count == 1 && served.developmentRoot == nil)
        #expect(served.statuses.last?.problem?.code == .malformed)
        let task = Task { await served.run(onChange: { _ in }, onProblem: { _ in }) }
        defer { task.cancel() }
        let pair = try TestCertificate(["root"]).loaded()
        _ = try await store.certificates.write(pair, as: root, origin: "development-ca", under: lease)
        try await eventually { served.snapshot.certificates.count == 2 }
        #expect(served.statuses.allSatisfy { $0.problem == nil })
    }

    @Test("Running processes adopt a root that was replaced, or created again with its first version")
    func replacedRoot() async throws {
        let store = try scratch.store()
        defer { store.close() }
        let served = try await open(store)
        let before = served.snapshot.fallback
        let task = Task { await served.run(onChange: { _ in }, onProblem: { _ in }) }
        defer { task.cancel() }
        let pair = try TestCertificate(["root"]).loaded()
        let lease = try await store.certificates.lease(of: root)
        _ = try await store.certificates.write(pair, as: root, origin: "development-ca", under: lease)
        let pin = "sha256:" + Hex.string(pair.leafSHA256)
        try await eventually { served.developmentRoot?.pin == pin && served.snapshot.fallback !== before }
        await lease.release()
        try await store.write(root, .remove(nil))
        try FileManager.default.removeItem(atPath: scratch.file("v2/\(root)"))
        let again = try await DevelopmentRoot.obtain(in: store.certificates)
        #expect(again.version == 1)
        try await eventually { served.developmentRoot?.pin == again.pin }
    }

    @Test("A root that changes while it is being read is read again")
    func changeDuringReading() async throws {
        let (store, files) = try scratch.observedStore()
        defer { store.close() }
        let served = try await open(store)
        let changes = Atomic(0)
        served.onStoreChange { _ in changes.add(1, ordering: .relaxed) }
        let task = Task { await served.run(onChange: { _ in }, onProblem: { _ in }) }
        defer { task.cancel() }
        let other = try scratch.store()
        defer { other.close() }
        let lease = try await other.certificates.lease(of: root)
        var pair = try TestCertificate(["root"]).loaded()
        // The watch opens the value first, then the development CA does.
        files.hang(after: 1, of: "/2.json")
        defer { files.hang(after: nil) }
        _ = try await other.certificates.write(pair, as: root, origin: "development-ca", under: lease)
        try await eventually { files.hanging == 1 }
        files.admit()
        let before = changes.load(ordering: .relaxed)
        pair = try TestCertificate(["root"]).loaded()
        _ = try await other.certificates.write(pair, as: root, origin: "development-ca", under: lease)
        try await eventually { changes.load(ordering: .relaxed) > before }
        files.hang(after: nil)
        try await eventually { served.developmentRoot?.fingerprint == Hex.string(pair.leafSHA256) }
        await lease.release()
    }

    @Test("A root that could not be read when it changed is read as soon as the volume answers")
    func unreadableChange() async throws {
        let (store, files) = try scratch.observedStore()
        defer { store.close() }
        let served = try await open(store)
        let task = Task { await served.run(onChange: { _ in }, onProblem: { _ in }) }
        defer { task.cancel() }
        let other = try scratch.store()
        defer { other.close() }
        files.fail("\(root)/")
        let pair = try TestCertificate(["root"]).loaded()
        let lease = try await other.certificates.lease(of: root)
        _ = try await other.certificates.write(pair, as: root, origin: "development-ca", under: lease)
        await lease.release()
        try await eventually { files.failures > 0 }
        #expect(served.developmentRoot?.fingerprint != Hex.string(pair.leafSHA256))
        files.fail(nil)
        try await eventually { served.developmentRoot?.fingerprint == Hex.string(pair.leafSHA256) }
        #expect(served.statuses.allSatisfy { $0.problem == nil })
    }

    @Test("A root that could not be read at the start is read later, and none is created in its place")
    func unreadableAtStart() async throws {
        let made = try await DevelopmentRoot.obtain(in: try scratch.store().certificates)
        let (store, files) = try scratch.observedStore()
        defer { store.close() }
        files.fail("\(root)/")
        let filed = try TestCertificate(["filed.test"])
        let filedFiles = scratch.files(chain: filed.chain, key: filed.key)
        let settings = ServedCertificates.Settings(files: [filedFiles], usesDevelopmentCA: true)
        let served = try await ServedCertificates.open(settings, store: store.certificates)
        #expect(served.developmentRoot == nil && files.failures > 0)
        let task = Task { await served.run(onChange: { _ in }, onProblem: { _ in }) }
        defer { task.cancel() }
        files.fail("\(root)/")
        try await eventually { files.failures > 0 }
        #expect(served.developmentRoot == nil)
        files.fail(nil)
        try await eventually { served.developmentRoot?.pin == made.pin && served.snapshot.certificates.count == 2 }
    }
}
