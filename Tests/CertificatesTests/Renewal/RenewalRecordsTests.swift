import ACME
import Certificates
import Formats
import Foundation
import NIOCore
import Store
import TestSupport
import Testing

@Suite("Records of renewals")
struct RenewalRecordsTests {
    private let scratch = ScratchFolder()

    @Test("A holder whose lease was taken over writes neither states nor orders nor certificates")
    func zombie() async throws {
        let key: StoreKey = "certs/a.test"
        let store = try scratch.store()
        defer { store.close() }
        let records = RenewalRecords(store)
        let certificate = try TestCertificate(["a.test"]).loaded()
        let lease = try await store.certificates.lease(of: key)
        var state = RenewalState()
        state.failures = 1
        try await records.put(state, of: key, under: lease)
        _ = try await store.write(RenewalRecords.orders.child("a.test"), .create(Array("{}".utf8)), under: lease)

        let options = LeaseOptions(guards: [key])
        let other = LeaseCandidate(volume: try scratch.volume(), lease: key, options: options, name: "other")
        let successor = try #require(try other.acquire(lease.epoch + 1))
        state.failures = 2
        let put = await #expect(throws: StoreError.self) { try await records.put(state, of: key, under: lease) }
        #expect(put?.code == .fenced)
        let removal = await #expect(throws: StoreError.self) { try await records.removeOrder(of: key, under: lease) }
        #expect(removal?.code == .fenced)
        let write = await #expect(throws: StoreError.self) {
            _ = try await store.certificates.write(certificate, as: key, origin: "acme", under: lease)
        }
        #expect(write?.code == .fenced)
        let end = await #expect(throws: StoreError.self) { try await store.certificates.remove(key, under: lease) }
        #expect(end?.code == .fenced)
        #expect(try await records.state(of: key).failures == 1)
        #expect(try await store.readIfPresent(RenewalRecords.orders.child("a.test")) != nil)
        #expect(try await store.readIfPresent(key) == nil)
        withExtendedLifetime(successor) {}
    }

    @Test(
        "A removed certificate leaves no key, neither of itself nor of its pending order",
        arguments: [true, false],
        [0o600, 0o644]
    )
    func removal(_ isPublished: Bool, _ mode: Int) async throws {
        let key: StoreKey = "certs/a.test"
        let secret = "-----BEGIN PRIVATE KEY-----"
        let store = try scratch.store()
        defer { store.close() }
        if isPublished { try await store.put(key, Array(secret.utf8)) }
        // A process that ends after publishing leaves the order with the key of the certificate.
        try await store.put(RenewalRecords.orders.child("a.test"), Array(secret.utf8))
        func remains() -> [String] {
            let all = FileManager.default.enumerator(atPath: scratch.path)?.compactMap { $0 as? String } ?? []
            return all.filter { String(decoding: scratch.read($0), as: UTF8.self).contains(secret) }
        }
        #expect(remains().count == (isPublished ? 2 : 1))
        // A file that is open to others is removed under the lease, too.
        for path in remains() {
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: scratch.file(path))
        }
        let certificates = store.certificates
        func remove() async throws(StoreError) {
            try await certificates.withLease(of: key) { lease throws(StoreError) in
                try await certificates.remove(key, under: lease)
            }
        }
        try await remove()
        #expect(remains() == [])
        let again = await #expect(throws: StoreError.self) { try await remove() }
        #expect(again?.code == .notFound)
    }

    @Test("A registration in progress brings no account back that was forgotten, nor replaces its successor")
    func forgottenAccount() async throws {
        let records = RenewalRecords(VolumeStore.inMemory())
        var account = try await records.account(at: TestCA.directory)
        account.contacts = ["admin@a.test"]
        for _ in 0..<2 { try await records.put(account) }
        #expect(try await records.account(at: TestCA.directory).contacts == account.contacts)

        account.contacts = []
        #expect(try await records.removeAccount(at: TestCA.directory))
        let forgotten = await #expect(throws: StoreError.self) { try await records.put(account) }
        #expect(forgotten?.isConflict == true)
        let successor = try await records.account(at: TestCA.directory)
        #expect(successor.key.pem != account.key.pem)
        let replaced = await #expect(throws: StoreError.self) { try await records.put(account) }
        #expect(replaced?.isConflict == true)
        #expect(try await records.account(at: TestCA.directory).key.pem == successor.key.pem)
    }

    @Test("A damaged record counts as missing, and one of a later release is an error and stays")
    func laterFormat() async throws {
        let store = VolumeStore.inMemory()
        let records = RenewalRecords(store)
        let certificate: StoreKey = "certs/a.test"
        let keys = [
            try RenewalRecords.names.child("a.test"), try RenewalRecords.orders.child("a.test"),
            try RenewalRecords.accounts.child(Fingerprint.of(TestCA.directory.text)),
        ]
        for key in keys { try await store.write(key, .create(Array("{}".utf8))) }
        #expect(try await records.state(of: certificate) == RenewalState())
        #expect(try await records.order(of: certificate) == nil)

        let later = Array(#"{"format":2}"#.utf8)
        for key in keys { try await store.write(key, .replace(1, later)) }
        let errors = [
            await #expect(throws: StoreError.self) { try await records.state(of: certificate) },
            await #expect(throws: StoreError.self) { try await records.order(of: certificate) },
            await #expect(throws: StoreError.self) { try await records.account(at: TestCA.directory) },
        ]
        for (key, error) in zip(keys, errors) {
            let text = try #require(error).description
            #expect(text.hasPrefix(key.path))
            #expect(text.hasSuffix("is 2; this release reads 1; \(StoreError.laterFormatRemedy)"))
            #expect(try await store.read(key).bytes == later)
        }
    }

    @Test("A process that has read a damaged budget does not remove the one that has taken its place")
    func replacedDamage() async throws {
        let store = try scratch.store()
        defer { store.close() }
        let (key, other) = (RenewalRecords.budget, try scratch.volume())
        func request(_ host: String) async throws -> [IssuanceBudget.Decision] {
            var hosts = WaitingHosts()
            _ = hosts.insert(.dns(host), token: "t", now: .now())
            return try await RenewalRecords(store).requestOrders(
                for: hosts.due(now: .now()),
                limits: IssuanceBudget.Limits(perMinute: 1, perWeek: 1),
                now: UnixTime(seconds: 1_800_000_000)
            )
        }
        #expect(try await request("a.test") == [.granted])
        let used = try await store.read(key)
        scratch.write("v2/\(key)/\(used.version).json", "HGV2 value 0 damaged")
        // Between the reading of the damaged record and its removal.
        store.onOperation { operation, _ in
            if operation == .read { _ = try? other.write(key, .replace(used.version, used.bytes)) }
        }
        #expect(try await request("b.test") != [.granted])
    }

    @Test("A record whose file is damaged counts as missing, and can be written again")
    func damagedFile() async throws {
        let store = try scratch.store()
        defer { store.close() }
        let records = RenewalRecords(store)
        let certificate: StoreKey = "certs/a.test"
        let authority = Fingerprint.of(TestCA.directory.text)
        let state = try RenewalRecords.names.child("a.test")
        let order = try RenewalRecords.orders.child("a.test")
        let account = try RenewalRecords.accounts.child(authority)
        let hold = try RenewalRecords.authorities.child(authority)
        for key in [state, order, account, hold, RenewalRecords.budget] {
            try await store.write(key, .create(Array("{}".utf8)))
            scratch.write("v2/\(key)/1.json", "HGV2 value 0 damaged")
        }
        let lease = try await store.certificates.lease(of: certificate)
        #expect(try await records.state(of: certificate) == RenewalState())
        #expect(try await records.order(of: certificate) == nil)
        var failed = RenewalState()
        failed.failures = 1
        try await records.put(failed, of: certificate, under: lease)
        #expect(try await records.state(of: certificate) == failed)
        try await records.removeOrder(of: certificate, under: lease)
        #expect(try await store.readIfPresent(order) == nil)

        // Only a gateway removes it; a command reads.
        #expect(try await records.hold(at: TestCA.directory.text) == nil)
        await #expect(throws: StoreError.self) { try await store.readIfPresent(hold) }
        let world = IssuingWorld(store: store)
        let issuer = world.issuer(world.settings([["c.test"]]))
        world.start(issuer)
        try await eventually("the damaged hold is removed") {
            do { return try await store.readIfPresent(hold) == nil } catch { return false }
        }
        await world.stop()
        var hosts = WaitingHosts()
        _ = hosts.insert(.dns("b.test"), token: "t", now: .now())
        let decisions = try await records.requestOrders(
            for: hosts.due(now: .now()),
            limits: IssuanceBudget.Limits(perMinute: 1, perWeek: 1),
            now: UnixTime(seconds: 1_800_000_000)
        )
        #expect(decisions == [.granted])
        #expect(try await store.read(RenewalRecords.budget).version == 3)

        let error = await #expect(throws: StoreError.self) { try await records.account(at: TestCA.directory) }
        #expect(error?.reason.hasSuffix("get a new account: hopgate acme forget-account \(TestCA.directory)") == true)
        #expect(try await records.removeAccount(at: TestCA.directory))
        _ = try await records.account(at: TestCA.directory)
    }
}
