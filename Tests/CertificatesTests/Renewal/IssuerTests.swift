import ACME
import Certificates
import Formats
import Glibc
import NIOCore
import Outbound
import Store
import Synchronization
import TestSupport
import Testing
import Threads

@Suite("Certificates by themselves")
struct IssuerTests {
    let scratch = ScratchFolder()

    @Test("A name is ordered at the start, published, and everything about the order is cleaned up")
    func first() async throws {
        let world = IssuingWorld()
        let issuer = world.issuer(world.settings([["a.test", "b.test"]]))
        world.start(issuer)
        try await world.published("a.test")
        let certificate = try #require(try await world.certificate("a.test"))
        #expect(Set(certificate.names.map(\.description)) == ["a.test", "b.test"])
        let records = RenewalRecords(world.store)
        try await eventually(within: .seconds(30)) {
            issuer.statuses.first?.nextRenewal != nil && !issuer.statuses[0].isOrdering
        }
        #expect(try await records.order(of: "certs/a.test") == nil)
        let status = issuer.statuses[0]
        #expect(status.authority == TestCA.directory.text && status.lastError == nil && status.failures == 0)
        #expect(world.board.isEmpty && world.orders == 1 && world.accounts == 1 && world.troubles.isEmpty)
        #expect(world.ca.with { $0.violations }.isEmpty)
        await world.stop()
    }

    @Test("A certificate for the longest DNS name is ordered and stored on a volume")
    func longestName() async throws {
        let name = String((0..<253).map { $0 % 61 == 60 ? "." : "a" })
        let world = IssuingWorld(store: try scratch.store())
        let issuer = world.issuer(world.settings([[name]]))
        world.start(issuer)
        try await world.published(name)
        let certificate = try #require(try await world.certificate(name))
        #expect(certificate.names == [.dns(name)])
        #expect(world.troubles.isEmpty && world.failures.isEmpty)
        await world.stop()
    }

    @Test("Eight gateways that start at once have one account and one order for each name")
    func together() async throws {
        let world = IssuingWorld(store: try scratch.store())
        let names = [["a.test"], ["b.test"], ["*.c.test", "c.test"]]
        let stores = try (0..<8).map { _ in try scratch.store() }
        let issuers = stores.map { world.issuer(world.settings(names), store: $0) }
        for issuer in issuers { world.start(issuer) }
        for name in ["a.test", "b.test", "*.c.test"] { try await world.published(name) }
        try await eventually(within: .seconds(30)) {
            issuers.allSatisfy { $0.statuses.allSatisfy { $0.nextRenewal != nil && !$0.isOrdering } }
        }
        #expect(world.orders == 3 && world.accounts == 1)
        #expect(world.ca.with { $0.issuedCount } == 3)
        #expect(world.troubles.isEmpty && world.failures.isEmpty)
        await world.stop()
        stores.forEach { $0.close() }
    }

    @Test(
        "The leader dies in the middle: another continues the same order",
        arguments: ["/order-plz", "/chall/", "/finalize/", "/cert/"]
    )
    func succession(path: String) async throws {
        let world = IssuingWorld(store: try scratch.store())
        let settings = world.settings([["a.test"]])
        let dying = try scratch.store()
        let transport = DyingTransport(world.ca) { request in
            request.method == .post && request.url.text.dropFirst(TestCA.host.count).hasPrefix(path)
        }
        let first = world.issuer(settings, store: dying, transport: transport)
        world.start(first)
        try await eventually(within: .seconds(30)) { transport.hasDied.withLock { $0 } }
        // Nothing of it is heard any more: its lease stands still.
        dying.close()
        let store = try scratch.store()
        let second = world.issuer(settings, store: store)
        let began = ContinuousClock.now
        world.start(second)
        try await world.published("a.test")
        print("taken over and issued after \(ContinuousClock.now - began), died at \(path)")
        // The answer to newOrder was lost with the leader: this CA gives the same order again, as public ones do.
        #expect(world.ca.with { $0.issuedCount } == 1)
        #expect(world.ca.with { $0.orders.count } == 1)
        #expect(world.accounts == 1)
        await world.stop()
        store.close()
    }

    @Test("A leader that slept past its lease publishes nothing when it wakes")
    func sleeper() async throws {
        let world = IssuingWorld(store: try scratch.store())
        let settings = world.settings([["a.test"]])
        let sleeping = try scratch.store()
        let awake = AsyncSignal()
        let hasSlept = Mutex(false)
        let gate = GatedTransport(world.ca) { request in
            guard request.url.text.contains("/cert/"), !hasSlept.withLock({ $0 }) else { return }
            hasSlept.withLock { $0 = true }
            await awake.wait()
        }
        let first = world.issuer(settings, store: sleeping, transport: gate)
        world.start(first)
        try await eventually(within: .seconds(30)) { hasSlept.withLock { $0 } }
        // A process that is stopped moves nothing.
        sleeping.close()
        let store = try scratch.store()
        let second = world.issuer(settings, store: store)
        world.start(second)
        try await world.published("a.test")
        let before = try await world.certificate("a.test")
        awake.send()
        try await eventually(within: .seconds(30)) { !first.statuses[0].isOrdering }
        #expect(try await world.certificate("a.test")?.leafSHA256 == before?.leafSHA256)
        #expect(world.ca.with { $0.issuedCount } == 1)
        await world.stop()
        store.close()
    }

    @Test("A name that the CA never issues for is not asked for again, until the settings change")
    func rejected() async throws {
        let world = IssuingWorld()
        world.ca.with { $0.rejectedNames = ["bad.test"] }
        let issuer = world.issuer(world.settings([["bad.test"]]))
        world.start(issuer)
        try await eventually(within: .seconds(30)) { world.failures.count == 1 }
        let records = RenewalRecords(world.store)
        try await eventually(within: .seconds(30)) {
            issuer.statuses[0].lastError != nil && !issuer.statuses[0].isOrdering
        }
        let state = try await records.state(of: "certs/bad.test")
        let until = try #require(state.nextTry)
        #expect(until - Instant.now.wall >= 86_000)
        #expect(state.lastError?.code == "rejectedIdentifier")
        #expect(issuer.statuses[0].nextTry == until)
        await world.stop()
        // A gateway that starts again respects it.
        let requests = world.ca.with { $0.requests }
        let again = world.issuer(world.settings([["bad.test"]]))
        world.start(again)
        try await eventually(within: .seconds(30)) { again.statuses[0].lastError != nil }
        #expect(world.ca.with { $0.requests } == requests)
        await world.stop()
        world.ca.with { $0.rejectedNames = [] }
        let changed = world.issuer(world.settings([["bad.test"]]) { $0.challenges = [.http01] })
        world.start(changed)
        try await world.published("bad.test")
        try await eventually(within: .seconds(30)) { changed.statuses[0].lastError == nil }
        await world.stop()
    }

    @Test("A request for a new certificate is fulfilled, or completed with the reason")
    func asked() async throws {
        let world = IssuingWorld()
        let issuer = world.issuer(world.settings([["a.test"]]))
        world.start(issuer)
        try await world.published("a.test")
        // A request that comes before the order has ended is completed by it.
        try await eventually(within: .seconds(30)) {
            issuer.statuses[0].nextRenewal != nil && !issuer.statuses[0].isOrdering
        }
        let before = try await world.certificate("a.test")
        let outcome = try await issuer.outcome(of: "a.test")
        guard case .issued = outcome else {
            Issue.record("\(outcome)")
            return
        }
        let after = try await world.certificate("a.test")
        #expect(after != nil && after?.leafSHA256 != before?.leafSHA256)
        #expect(!issuer.renew(CertificateName("other.test")!) { _ in })

        world.ca.with { $0.rateLimitedUntil = Instant.now.wall + 5_000 }
        for isFirst in [true, false] {
            switch try await issuer.outcome(of: "a.test") {
            case .failed(let failure) where isFirst: #expect(failure.code == .rateLimited)
            case .held(let until, let reason) where !isFirst:
                #expect(until - Instant.now.wall > 4_000 && reason.contains("too many"))
            case let other: Issue.record("\(other)")
            }
        }
        #expect(try await world.certificate("a.test")?.leafSHA256 == after?.leafSHA256)
        await world.stop()
    }

    @Test("A name shows the lease that it waits for, and its holder")
    func leaseWait() async throws {
        let world = IssuingWorld()
        let name = CertificateName("a.test")!
        let lease = try await world.store.certificates.lease(of: name.storeKey)
        let issuer = world.issuer(world.settings([["a.test"]]))
        world.start(issuer)
        try await eventually(within: .seconds(30)) { issuer.leaseWait(of: name) != nil }
        #expect(issuer.leaseWait(of: name)?.holder == VolumeStore.Options().processName)
        await lease.release()
        try await world.published("a.test")
        try await eventually(within: .seconds(30)) { issuer.leaseWait(of: name) == nil }
        await world.stop()
    }

    @Test("Certificates that live for seconds are renewed at half of their time, and not in a storm")
    func renewal() async throws {
        let world = IssuingWorld()
        // This CA dates its certificates back by an hour: by their dates alone they would be due at once.
        world.ca.with { $0.lifetime = 3_620 }
        // A busy machine may not renew a lease of one second in time; the order then waits for its back-off.
        let issuer = world.issuer(world.settings([["a.test"]]) { $0.leaseTime = .seconds(15) })
        let began = ContinuousClock.now
        world.start(issuer)
        try await eventually(within: .seconds(60)) { world.ca.with { $0.issuedCount } >= 3 }
        #expect(ContinuousClock.now - began > .seconds(15))
        #expect(world.failures.isEmpty && world.accounts == 1 && world.orders == 3)
        await world.stop()
    }

    @Test("After a certificate the CA is asked for its window, which is stored")
    func window() async throws {
        let world = IssuingWorld()
        world.ca.with { $0.offersRenewalInfo = true }
        let issuer = world.issuer(world.settings([["a.test"]]))
        world.start(issuer)
        try await world.published("a.test")
        try await eventually(within: .seconds(30)) { issuer.statuses[0].explanation == "https://example.test/why" }
        let state = try await RenewalRecords(world.store).state(of: "certs/a.test")
        let plan = try #require(state.renewal)
        let window = try #require(plan.window)
        #expect(window.start <= plan.at && plan.at < window.end && issuer.statuses[0].nextRenewal == plan.at)
        await world.stop()
    }

    @Test(
        "A challenge that cannot be presented is a failure with its reason, and the order is kept for the next attempt"
    )
    func presentation() async throws {
        let world = IssuingWorld()
        world.board.failure.withLock { $0 = "the hook said no" }
        let issuer = world.issuer(world.settings([["a.test"]]))
        world.start(issuer)
        try await eventually(within: .seconds(30)) { world.failures.count == 1 }
        #expect(world.failures[0].code == .presentationFailed && "\(world.failures[0])".contains("the hook said no"))
        try await eventually(within: .seconds(30)) { issuer.statuses[0].lastError?.code == "presentationFailed" }
        #expect(try await RenewalRecords(world.store).order(of: "certs/a.test") != nil)
        world.board.failure.withLock { $0 = nil }
        #expect(issuer.renew(CertificateName("a.test")!) { _ in })
        try await world.published("a.test")
        #expect(world.orders == 1)
        await world.stop()
    }

    @Test("A certificate whose file is damaged or too large is ordered again", arguments: [0, 7, off_t(8) << 30])
    func damagedCertificate(size: off_t) async throws {
        let world = IssuingWorld(store: try scratch.store())
        try await world.store.write("certs/a.test", .create([]))
        #expect(truncate(scratch.file("v2/certs/a.test/1.json"), size) == 0)
        let issuer = world.issuer(world.settings([["a.test"]]))
        world.start(issuer)
        try await world.published("a.test")
        #expect(world.orders == 1)
        await world.stop()
        world.store.close()
    }
}

/// Waits before it sends.
private struct GatedTransport: ACMETransport {
    let ca: MemoryAuthority
    let gate: @Sendable (ACMERequest) async -> Void

    init(_ ca: MemoryAuthority, _ gate: @escaping @Sendable (ACMERequest) async -> Void) {
        self.ca = ca
        self.gate = gate
    }

    func send(_ request: ACMERequest, trust: OutboundTrust) async throws(ACMETransportError) -> ACMEResponse {
        await gate(request)
        return try await ca.send(request, trust: trust)
    }
}
