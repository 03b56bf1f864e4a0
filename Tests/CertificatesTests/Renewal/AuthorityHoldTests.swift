import ACME
import Certificates
import Formats
import NIOCore
import Outbound
import Store
import Synchronization
import TestSupport
import Testing

@Suite("Holds and accounts of CAs")
struct AuthorityHoldTests {
    let scratch = ScratchFolder()

    private func quick(_ settings: inout RenewalSettings) {
        settings.gateTiming.pause = 1
        settings.gateTiming.claim = 2
        settings.gateTiming.spread = 1
    }

    /// Waits until all names have a certificate, and checks that the outage was no failure of any name.
    private func expectReturn(_ world: IssuingWorld, _ issuers: [CertificateIssuer], _ count: Int) async throws {
        try await eventually(within: .seconds(60)) { world.ca.with { $0.issuedCount } == count }
        try await eventually(within: .seconds(30)) {
            issuers.allSatisfy { $0.authorityHolds.isEmpty && $0.statuses.allSatisfy { $0.failures == 0 } }
        }
        #expect(world.failures.isEmpty && world.troubles.isEmpty)
        #expect(world.orders >= count)
        // At most one line at the beginning and one at the end, in each of two replicas.
        #expect(world.authorityEvents <= 4)
        let records = RenewalRecords(world.store)
        // The CA has issued a certificate before it is published and the state of the name is written.
        try await eventually(within: .seconds(30)) { try await records.state(of: "certs/1.test").lastError == nil }
    }

    @Test("A CA that is down is one record for two replicas: nothing is stored for a name, and all follow its return")
    func outage() async throws {
        let world = IssuingWorld(store: try scratch.store())
        let isDown = Mutex(true)
        let transport = FailingTransport(world.ca) { isDown.withLock { $0 } }
        let settings = world.settings((0..<60).map { ["\($0).test"] }, change: quick)
        let stores = try (0..<2).map { _ in try scratch.store() }
        let issuers = stores.map { world.issuer(settings, store: $0, transport: transport) }
        for issuer in issuers { world.start(issuer) }
        try await eventually(within: .seconds(30)) { world.authorityEvents == 1 }
        try await eventually(within: .seconds(30)) {
            issuers.allSatisfy { $0.statuses.allSatisfy { $0.lastError?.code == "unavailable" && $0.nextTry != nil } }
        }
        #expect(try await world.store.list(RenewalRecords.names).isEmpty)
        #expect(try await world.store.list(RenewalRecords.authorities).count == 1)
        // A request is completed with the reason.
        _ = try await issuers[0].outcome(of: "1.test")
        isDown.withLock { $0 = false }
        try await expectReturn(world, issuers, 60)
        await world.stop()
        stores.forEach { $0.close() }
    }

    @Test("An account that the CA rejects is one record, until the settings change")
    func rejectedAccount() async throws {
        let world = IssuingWorld()
        let external = try #require(
            ExternalAccount(keyID: "kid-1", key: Base64URL.encode(Array("the mac key of the tests".utf8)))
        )
        world.ca.with { $0.externalAccount = external }
        let names = (0..<30).map { ["\($0).test"] }
        let issuer = world.issuer(world.settings(names))
        world.start(issuer)
        try await eventually(within: .seconds(30)) {
            issuer.statuses.allSatisfy { $0.lastError?.code == "externalAccountRequired" && $0.nextTry != nil }
        }
        #expect(world.failures.isEmpty && world.accounts == 0)
        #expect(try await world.store.list(RenewalRecords.names).isEmpty)
        // A request is answered by an attempt.
        let outcome = try await issuer.outcome(of: "7.test")
        guard case .failed(let failure) = outcome, failure.code == .externalAccountRequired else {
            Issue.record("\(outcome)")
            return
        }
        await world.stop()
        let changed = world.issuer(world.settings(names) { $0.authorities[0].authority.externalAccount = external })
        world.start(changed)
        try await eventually(within: .seconds(30)) { world.ca.with { $0.issuedCount } == 30 }
        try await eventually(within: .seconds(30)) { changed.authorityHolds.isEmpty }
        await world.stop()
    }

    @Test("A limit of the account is one record, and one name asks again at its time before the others")
    func accountLimit() async throws {
        let world = IssuingWorld()
        let isLimited = Mutex(true)
        let refusals = Mutex<[ContinuousClock.Instant]>([])
        world.ca.with { ca in
            ca.tamper = { [unowned ca] request, response in
                guard request.url.text.hasSuffix("/order-plz"), isLimited.withLock({ $0 }) else { return }
                refusals.withLock { $0.append(.now) }
                response = ca.problem(429, "rateLimited", "too many", [ACMEResponse.Field("Retry-After", "3")])
            }
        }
        let issuer = world.issuer(world.settings((0..<40).map { ["\($0).test"] }, change: quick))
        world.start(issuer)
        // Without those that were on their way when the first one was refused.
        func retries() -> Int {
            refusals.withLock { times in times.count { $0 - times[0] > .seconds(2) } }
        }
        try await eventually(within: .seconds(30)) { retries() > 0 }
        #expect(retries() == 1 && issuer.authorityHolds[TestCA.directory.text] != nil)
        isLimited.withLock { $0 = false }
        let refused = world.orders
        try await expectReturn(world, [issuer], 40)
        #expect(world.orders <= refused + 16 + 40)
        await world.stop()
    }

    @Test("A hold that cannot be read is reported, and no time that never comes is shown")
    func unreadableHold() async throws {
        let world = IssuingWorld()
        let key = try RenewalRecords.authorities.child(Fingerprint.of(TestCA.directory.text))
        try await world.store.write(key, .create(Array(#"{"format":99}"#.utf8)))
        let issuer = world.issuer(world.settings([["a.test"]]))
        world.start(issuer)
        try await eventually(within: .seconds(30)) { world.troubles.contains { $0.code == .newerFormat } }
        #expect(world.orders == 0 && issuer.statuses.allSatisfy { $0.nextTry == nil })
        await world.stop()
    }

    @Test("A certificate of a later release is neither ordered again nor replaced")
    func laterCertificate() async throws {
        let world = IssuingWorld()
        let key: StoreKey = "certs/a.test"
        let later = SealedDocument.seal(Array(#"{"format":99}"#.utf8), at: key, with: testKeyring.signing)
        try await world.store.write(key, .create(later))
        let issuer = world.issuer(world.settings([["a.test"]]))
        world.start(issuer)
        try await eventually(within: .seconds(30)) { world.troubles.contains { $0.code == .newerFormat } }
        #expect(world.orders == 0)
        #expect(try await world.store.read(key) == StoredValue(bytes: later, version: 1))
        await world.stop()
    }

    @Test("A damaged account is reported once, with the remedy, and only for as long as it is stored")
    func damagedAccount() async throws {
        let world = IssuingWorld()
        let key: StoreKey = try RenewalRecords.accounts.child(Fingerprint.of(TestCA.directory.text))
        try await world.store.write(key, .create(Array("{}".utf8)))
        let issuer = world.issuer(world.settings([["a.test"]]))
        world.start(issuer)
        try await eventually(within: .seconds(30)) { world.troubles.count == 1 }
        #expect("\(world.troubles[0])".contains("acme/accounts/"))
        #expect("\(world.troubles[0])".contains("hopgate acme forget-account \(TestCA.directory)"))
        try await world.store.write(key, .remove(nil))
        try await world.published("a.test")
        #expect(world.troubles.count == 1)
        await world.stop()
    }
}

/// Fails at once while the CA is down.
private struct FailingTransport: ACMETransport {
    let ca: MemoryAuthority
    let isDown: @Sendable () -> Bool

    init(_ ca: MemoryAuthority, _ isDown: @escaping @Sendable () -> Bool) {
        self.ca = ca
        self.isDown = isDown
    }

    func send(_ request: ACMERequest, trust: OutboundTrust) async throws(ACMETransportError) -> ACMEResponse {
        if isDown() { throw ACMETransportError("connection refused", .permanent) }
        return try await ca.send(request, trust: trust)
    }
}
