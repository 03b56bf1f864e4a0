import ACME
import Certificates
import Formats
import Foundation
import Glibc
import NIOCore
import Outbound
import Store
import Synchronization
import TestSupport
import Testing

@Suite("Certificates by themselves")
struct IssuerTests {
    let scratch = ScratchFolder()

    /// Waits until a certificate for the name is published.
    private func published(_ world: IssuingWorld, _ name: String, line: Int = #line) async throws {
        try await eventually("\(name) is published", line: line) { (try? await world.certificate(name)) != nil }
    }

    @Test("A name is ordered at the start, published, and everything about the order is cleaned up")
    func first() async throws {
        let world = IssuingWorld()
        let issuer = world.issuer(world.settings([["a.test", "b.test"]]))
        let task = Task { await issuer.run() }
        try await published(world, "a.test")
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
        task.cancel()
        await task.value
    }

    @Test("A certificate for the longest DNS name is ordered and stored on a volume")
    func longestName() async throws {
        let name = String((0..<253).map { $0 % 61 == 60 ? "." : "a" })
        let world = IssuingWorld(store: try scratch.store())
        let issuer = world.issuer(world.settings([[name]]))
        let task = Task { await issuer.run() }
        try await published(world, name)
        let certificate = try #require(try await world.certificate(name))
        #expect(certificate.names == [.dns(name)])
        #expect(world.troubles.isEmpty && world.failures.isEmpty)
        task.cancel()
        await task.value
    }

    @Test("Eight gateways that start at once have one account and one order for each name")
    func together() async throws {
        let world = IssuingWorld(store: try scratch.store())
        let names = [["a.test"], ["b.test"], ["*.c.test", "c.test"]]
        let stores = try (0..<8).map { _ in try scratch.store() }
        let issuers = stores.map { world.issuer(world.settings(names), store: $0) }
        let task = Task {
            await withDiscardingTaskGroup { group in
                for issuer in issuers { group.addTask { await issuer.run() } }
            }
        }
        for name in ["a.test", "b.test", "*.c.test"] { try await published(world, name) }
        try await eventually(within: .seconds(30)) {
            issuers.allSatisfy { $0.statuses.allSatisfy { $0.nextRenewal != nil && !$0.isOrdering } }
        }
        #expect(world.orders == 3 && world.accounts == 1)
        #expect(world.ca.with { $0.issuedCount } == 3)
        #expect(world.troubles.isEmpty && world.failures.isEmpty)
        task.cancel()
        await task.value
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
        let firstTask = Task { await first.run() }
        try await eventually(within: .seconds(30)) { transport.hasDied.withLock { $0 } }
        // Nothing of it is heard any more: its lease stands still.
        dying.close()
        let store = try scratch.store()
        let second = world.issuer(settings, store: store)
        let began = ContinuousClock.now
        let secondTask = Task { await second.run() }
        try await published(world, "a.test")
        print("taken over and issued after \(ContinuousClock.now - began), died at \(path)")
        // The answer to newOrder was lost with the leader: this CA gives the same order again, as public ones do.
        #expect(world.ca.with { $0.issuedCount } == 1)
        #expect(world.ca.with { $0.orders.count } == 1)
        #expect(world.accounts == 1)
        firstTask.cancel()
        secondTask.cancel()
        await firstTask.value
        await secondTask.value
        store.close()
    }

    @Test("A leader that slept past its lease publishes nothing when it wakes")
    func sleeper() async throws {
        let world = IssuingWorld(store: try scratch.store())
        let settings = world.settings([["a.test"]])
        let sleeping = try scratch.store()
        let isAwake = Mutex(false)
        let hasSlept = Mutex(false)
        let gate = GatedTransport(world.ca) { request in
            guard request.url.text.contains("/cert/") else { return }
            hasSlept.withLock { $0 = true }
            while !isAwake.withLock({ $0 }), !Task.isCancelled { try? await Task.sleep(for: .milliseconds(10)) }
        }
        let first = world.issuer(settings, store: sleeping, transport: gate)
        let firstTask = Task { await first.run() }
        try await eventually(within: .seconds(30)) { hasSlept.withLock { $0 } }
        // A process that is stopped moves nothing.
        sleeping.close()
        let store = try scratch.store()
        let second = world.issuer(settings, store: store)
        let secondTask = Task { await second.run() }
        try await published(world, "a.test")
        let before = try await world.certificate("a.test")
        isAwake.withLock { $0 = true }
        try await eventually(within: .seconds(30)) { !first.statuses[0].isOrdering }
        #expect(try await world.certificate("a.test")?.leafSHA256 == before?.leafSHA256)
        #expect(world.ca.with { $0.issuedCount } == 1)
        firstTask.cancel()
        secondTask.cancel()
        await firstTask.value
        await secondTask.value
        store.close()
    }

    @Test("A name that the CA never issues for is not asked for again, until the settings change")
    func rejected() async throws {
        let world = IssuingWorld()
        world.ca.with { $0.rejectedNames = ["bad.test"] }
        let issuer = world.issuer(world.settings([["bad.test"]]))
        let task = Task { await issuer.run() }
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
        task.cancel()
        await task.value
        // A gateway that starts again respects it.
        let requests = world.ca.with { $0.requests }
        let again = world.issuer(world.settings([["bad.test"]]))
        let againTask = Task { await again.run() }
        try await eventually(within: .seconds(30)) { again.statuses[0].lastError != nil }
        #expect(world.ca.with { $0.requests } == requests)
        againTask.cancel()
        await againTask.value
        world.ca.with { $0.rejectedNames = [] }
        let changed = world.issuer(world.settings([["bad.test"]]) { $0.challenges = [.http01] })
        let changedTask = Task { await changed.run() }
        try await published(world, "bad.test")
        try await eventually(within: .seconds(30)) { changed.statuses[0].lastError == nil }
        changedTask.cancel()
        await changedTask.value
    }

    @Test("A request for a new certificate is fulfilled, or completed with the reason")
    func asked() async throws {
        let world = IssuingWorld()
        let issuer = world.issuer(world.settings([["a.test"]]))
        let task = Task { await issuer.run() }
        try await published(world, "a.test")
        // A request that comes before the order has ended is completed by it.
        try await eventually(within: .seconds(30)) {
            issuer.statuses[0].nextRenewal != nil && !issuer.statuses[0].isOrdering
        }
        let before = try await world.certificate("a.test")
        let outcome = Mutex<RenewalOutcome?>(nil)
        #expect(issuer.renew(CertificateName("a.test")!) { answer in outcome.withLock { $0 = answer } })
        try await eventually(within: .seconds(30)) { outcome.withLock { $0 } != nil }
        guard case .issued = outcome.withLock({ $0 }) else {
            Issue.record("\(String(describing: outcome.withLock { $0 }))")
            return
        }
        let after = try await world.certificate("a.test")
        #expect(after != nil && after?.leafSHA256 != before?.leafSHA256)
        #expect(!issuer.renew(CertificateName("other.test")!) { _ in })

        world.ca.with { $0.rateLimitedUntil = Instant.now.wall + 5_000 }
        for isFirst in [true, false] {
            outcome.withLock { $0 = nil }
            #expect(issuer.renew(CertificateName("a.test")!) { answer in outcome.withLock { $0 = answer } })
            try await eventually(within: .seconds(30)) { outcome.withLock { $0 } != nil }
            switch outcome.withLock({ $0 }) {
            case .failed(let failure) where isFirst: #expect(failure.code == .rateLimited)
            case .held(let until, let reason) where !isFirst:
                #expect(until - Instant.now.wall > 4_000 && reason.contains("too many"))
            case let other: Issue.record("\(String(describing: other))")
            }
        }
        #expect(try await world.certificate("a.test")?.leafSHA256 == after?.leafSHA256)
        task.cancel()
        await task.value
    }

    @Test("A name shows the lease that it waits for, and its holder")
    func leaseWait() async throws {
        let world = IssuingWorld()
        let name = CertificateName("a.test")!
        let lease = try await world.store.certificates.lease(of: name.storeKey)
        let issuer = world.issuer(world.settings([["a.test"]]))
        let task = Task { await issuer.run() }
        try await eventually(within: .seconds(30)) { issuer.leaseWait(of: name) != nil }
        #expect(issuer.leaseWait(of: name)?.holder == VolumeStore.Options().processName)
        await lease.release()
        try await published(world, "a.test")
        try await eventually(within: .seconds(30)) { issuer.leaseWait(of: name) == nil }
        task.cancel()
        await task.value
    }

    @Test("Certificates that live for seconds are renewed at half of their time, and not in a storm")
    func renewal() async throws {
        let world = IssuingWorld()
        // This CA dates its certificates back by an hour: by their dates alone they would be due at once.
        world.ca.with { $0.lifetime = 3_620 }
        // A busy machine may not renew a lease of one second in time; the order then waits for its back-off.
        let issuer = world.issuer(world.settings([["a.test"]]) { $0.leaseTime = .seconds(15) })
        let began = ContinuousClock.now
        let task = Task { await issuer.run() }
        try await eventually(within: .seconds(60)) { world.ca.with { $0.issuedCount } >= 3 }
        #expect(ContinuousClock.now - began > .seconds(15))
        #expect(world.failures.isEmpty && world.accounts == 1 && world.orders == 3)
        task.cancel()
        await task.value
    }

    @Test("After a certificate the CA is asked for its window, which is stored")
    func window() async throws {
        let world = IssuingWorld()
        world.ca.with { $0.offersRenewalInfo = true }
        let issuer = world.issuer(world.settings([["a.test"]]))
        let task = Task { await issuer.run() }
        try await published(world, "a.test")
        try await eventually(within: .seconds(30)) { issuer.statuses[0].explanation == "https://example.test/why" }
        let state = try await RenewalRecords(world.store).state(of: "certs/a.test")
        let plan = try #require(state.renewal)
        let window = try #require(plan.window)
        #expect(window.start <= plan.at && plan.at < window.end && issuer.statuses[0].nextRenewal == plan.at)
        task.cancel()
        await task.value
    }

    /// Settings under which agents offer all names below `hosts.test`, with one token.
    private func onDemand(_ world: IssuingWorld, perMinute: Int, perWeek: Int = 100) -> RenewalSettings {
        world.settings([]) { settings in
            let limits = IssuanceBudget.Limits(perMinute: perMinute, perWeek: perWeek)
            settings.onDemand = RenewalSettings.OnDemand(
                limits: limits,
                covers: { $0.description.hasSuffix(".test") },
                eligibility: { $0.description.hasSuffix(".hosts.test") ? .offered(token: "t") : .refused }
            )
        }
    }

    @Test("Hosts of agents get certificates on demand, as many as the budget of the cluster grants")
    func onDemand() async throws {
        let world = IssuingWorld()
        let settings = onDemand(world, perMinute: 4)
        let issuer = world.issuer(settings)
        issuer.requestCertificate(for: "early.hosts.test")
        let task = Task { await issuer.run() }
        for host in ["other.test", "*.hosts.test", "192.0.2.1", "no name", "early.hosts.test"] {
            issuer.requestCertificate(for: host)
        }
        try await published(world, "early.hosts.test")
        issuer.requestCertificate(for: "late.hosts.test")
        try await published(world, "late.hosts.test")
        #expect(issuer.statuses.count == 2 && issuer.statuses.allSatisfy { $0.isOnDemand })
        task.cancel()
        await task.value
        // A restarted gateway has no budget of its own. The host that was granted costs nothing again.
        let again = world.issuer(settings)
        let againTask = Task { await again.run() }
        for host in ["third.hosts.test", "early.hosts.test"] { again.requestCertificate(for: host) }
        try await eventually(within: .seconds(30)) {
            again.statuses.map { $0.names[0].description } == ["early.hosts.test"]
        }
        #expect(world.orders == 2)
        againTask.cancel()
        await againTask.value
    }

    @Test("A client that asks for 10,000 random names causes no renewer, no order and no access to the store")
    func randomNames() async throws {
        let world = IssuingWorld()
        let issuer = world.issuer(onDemand(world, perMinute: 10))
        let task = Task { await issuer.run() }
        for _ in 0..<10_000 { issuer.requestCertificate(for: "\(UInt64.random(in: .min ... .max)).wild.test") }
        #expect(issuer.statuses.isEmpty && issuer.waitingCount == 0 && world.orders == 0)
        await #expect(throws: StoreError.self) { try await world.store.read(RenewalRecords.budget) }
        task.cancel()
        await task.value
    }

    @Test("An agent that offers 10,000 names gets as many certificates as its token may have, and the others wait")
    func manyNames() async throws {
        let world = IssuingWorld()
        let issuer = world.issuer(onDemand(world, perMinute: 10, perWeek: 6))
        let task = Task { await issuer.run() }
        for number in 0..<10_000 { issuer.requestCertificate(for: "\(number).hosts.test") }
        try await eventually(within: .seconds(30)) { issuer.statuses.count == 3 }
        #expect(issuer.waitingCount <= WaitingHosts.limit)
        try await eventually(within: .seconds(30)) {
            world.events.withLock { events in
                events.contains { if case .budgetUsedUp = $0 { true } else { false } }
            }
        }
        #expect(issuer.statuses.count == 3 && world.orders <= 3)
        task.cancel()
        await task.value
    }

    @Test("What is left of hosts that are not offered any more is removed a week after its last use, in slices")
    func abandoned() async throws {
        let world = IssuingWorld(store: try scratch.store())
        let records = RenewalRecords(world.store)
        let now = Instant.now.wall
        func key(_ name: String) throws -> StoreKey { try CertificateName("\(name).test")!.storeKey }
        func store(_ name: String, failedDaysAgo days: Int64) async throws {
            let state = RetryPolicy.failed(
                ACMEFailure(.connection, .authorization, "port 80 is closed"),
                authority: TestCA.directory.text,
                state: RenewalState(),
                settings: "s",
                now: now - days * 86_400,
                random: 0
            )
            let lease = try await world.store.certificates.lease(of: key(name))
            try await records.put(state, of: key(name), under: lease)
            await lease.release()
        }
        func publish(_ name: String, expiredDaysAgo days: Double, by authority: String?) async throws {
            let certificate = try TestCertificate(["\(name).test"], hours: -24 * 90 ... -24 * days).loaded()
            let lease = try await world.store.certificates.lease(of: key(name))
            _ = try await world.store.certificates.write(
                certificate,
                as: key(name),
                origin: authority == nil ? "import" : "acme",
                authority: authority,
                under: lease
            )
            await lease.release()
        }
        let authority = TestCA.directory.text
        for name in ["gone", "imported", "young"] { try await store(name, failedDaysAgo: 30) }
        try await publish("gone", expiredDaysAgo: 8, by: authority)
        try await publish("imported", expiredDaysAgo: 8, by: nil)
        try await publish("young", expiredDaysAgo: 6, by: authority)
        for number in 0..<150 { try await store("old\(number)", failedDaysAgo: 8) }
        try await store("recent", failedDaysAgo: 6)

        let issuer = world.issuer(
            world.settings([["a.test"]]) { settings in
                settings.onDemand = onDemand(world, perMinute: 1).onDemand
            }
        )
        #expect(await issuer.removeAbandonedRecords(after: nil) == nil, "no clock of a CA is known")
        let task = Task { await issuer.run() }
        try await published(world, "a.test")
        var last = await issuer.removeAbandonedRecords(after: nil)
        var calls = 1
        while let next = last {
            last = await issuer.removeAbandonedRecords(after: next)
            calls += 1
        }
        #expect(calls == 3)
        // What was removed is listed for some time, and is not examined again under a lease.
        while let next = await issuer.removeAbandonedRecords(after: last) { last = next }
        for name in ["gone", "old0", "old149"] {
            #expect(!FileManager.default.fileExists(atPath: scratch.file("v2/locks/certs/\(name).test")), "\(name)")
        }
        for name in ["gone", "imported", "old0", "old149"] {
            #expect(try await records.state(of: key(name)).lastError == nil, "\(name)")
        }
        for name in ["young", "recent"] { #expect(try await records.state(of: key(name)).lastError != nil, "\(name)") }
        #expect(try await world.certificate("gone.test") == nil)
        for name in ["imported", "young", "a"] {
            #expect(try await world.certificate("\(name).test") != nil, "\(name)")
        }
        #expect(world.troubles.isEmpty)
        task.cancel()
        await task.value
    }

    // MARK: The CA as a whole

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
        #expect(try await records.state(of: "certs/1.test").lastError == nil)
    }

    @Test("A CA that is down is one record for two replicas: nothing is stored for a name, and all follow its return")
    func outage() async throws {
        let world = IssuingWorld(store: try scratch.store())
        let isDown = Mutex(true)
        let transport = FailingTransport(world.ca) { isDown.withLock { $0 } }
        let settings = world.settings((0..<60).map { ["\($0).test"] }, change: quick)
        let stores = try (0..<2).map { _ in try scratch.store() }
        let issuers = stores.map { world.issuer(settings, store: $0, transport: transport) }
        let task = Task {
            await withDiscardingTaskGroup { group in
                for issuer in issuers { group.addTask { await issuer.run() } }
            }
        }
        try await eventually(within: .seconds(30)) { world.authorityEvents == 1 }
        try await eventually(within: .seconds(30)) {
            issuers.allSatisfy { $0.statuses.allSatisfy { $0.lastError?.code == "unavailable" && $0.nextTry != nil } }
        }
        #expect(try await world.store.list(RenewalRecords.names).isEmpty)
        #expect(try await world.store.list(RenewalRecords.authorities).count == 1)
        // A request is completed with the reason.
        let outcome = Mutex<RenewalOutcome?>(nil)
        #expect(issuers[0].renew(CertificateName("1.test")!) { answer in outcome.withLock { $0 = answer } })
        try await eventually(within: .seconds(30)) { outcome.withLock { $0 } != nil }
        isDown.withLock { $0 = false }
        try await expectReturn(world, issuers, 60)
        task.cancel()
        await task.value
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
        let task = Task { await issuer.run() }
        try await eventually(within: .seconds(30)) {
            issuer.statuses.allSatisfy { $0.lastError?.code == "externalAccountRequired" && $0.nextTry != nil }
        }
        #expect(world.failures.isEmpty && world.accounts == 0)
        #expect(try await world.store.list(RenewalRecords.names).isEmpty)
        // A request is answered by an attempt.
        let outcome = Mutex<RenewalOutcome?>(nil)
        #expect(issuer.renew(CertificateName("7.test")!) { answer in outcome.withLock { $0 = answer } })
        try await eventually(within: .seconds(30)) { outcome.withLock { $0 } != nil }
        guard case .failed(let failure) = outcome.withLock({ $0 }), failure.code == .externalAccountRequired else {
            Issue.record("\(String(describing: outcome.withLock { $0 }))")
            return
        }
        task.cancel()
        await task.value
        let changed = world.issuer(world.settings(names) { $0.authorities[0].authority.externalAccount = external })
        let changedTask = Task { await changed.run() }
        try await eventually(within: .seconds(30)) { world.ca.with { $0.issuedCount } == 30 }
        try await eventually(within: .seconds(30)) { changed.authorityHolds.isEmpty }
        changedTask.cancel()
        await changedTask.value
    }

    @Test("A limit of the account is one record, and one name asks again at its time before the others")
    func accountLimit() async throws {
        let world = IssuingWorld()
        let isLimited = Mutex(true)
        world.ca.with { ca in
            ca.tamper = { [unowned ca] request, response in
                guard request.url.text.hasSuffix("/order-plz"), isLimited.withLock({ $0 }) else { return }
                response = ca.problem(429, "rateLimited", "too many", [ACMEResponse.Field("Retry-After", "2")])
            }
        }
        let issuer = world.issuer(world.settings((0..<40).map { ["\($0).test"] }, change: quick))
        let task = Task { await issuer.run() }
        try await eventually(within: .seconds(30)) { issuer.authorityHolds[TestCA.directory.text] != nil }
        isLimited.withLock { $0 = false }
        let refused = world.orders
        try await expectReturn(world, [issuer], 40)
        #expect(world.orders <= refused + 16 + 40)
        task.cancel()
        await task.value
    }

    @Test(
        "A challenge that cannot be presented is a failure with its reason, and the order is kept for the next attempt"
    )
    func presentation() async throws {
        let world = IssuingWorld()
        world.board.failure.withLock { $0 = "the hook said no" }
        let issuer = world.issuer(world.settings([["a.test"]]))
        let task = Task { await issuer.run() }
        try await eventually(within: .seconds(30)) { world.failures.count == 1 }
        #expect(world.failures[0].code == .presentationFailed && "\(world.failures[0])".contains("the hook said no"))
        try await eventually(within: .seconds(30)) { issuer.statuses[0].lastError?.code == "presentationFailed" }
        #expect(try await RenewalRecords(world.store).order(of: "certs/a.test") != nil)
        world.board.failure.withLock { $0 = nil }
        let outcome = Mutex<RenewalOutcome?>(nil)
        #expect(issuer.renew(CertificateName("a.test")!) { answer in outcome.withLock { $0 = answer } })
        try await published(world, "a.test")
        #expect(world.orders == 1)
        task.cancel()
        await task.value
    }

    @Test("A certificate whose file is damaged or too large is ordered again", arguments: [0, 7, off_t(8) << 30])
    func damagedCertificate(size: off_t) async throws {
        let world = IssuingWorld(store: try scratch.store())
        try await world.store.write("certs/a.test", .create([]))
        #expect(truncate(scratch.file("v2/certs/a.test/1.json"), size) == 0)
        let issuer = world.issuer(world.settings([["a.test"]]))
        let task = Task { await issuer.run() }
        try await published(world, "a.test")
        #expect(world.orders == 1)
        task.cancel()
        await task.value
        world.store.close()
    }

    @Test(
        "A damaged account is reported once, with the remedy, and only for as long as it is stored"
    )
    func damagedAccount() async throws {
        let world = IssuingWorld()
        let key: StoreKey = try RenewalRecords.accounts.child(Fingerprint.of(TestCA.directory.text))
        try await world.store.write(key, .create(Array("{}".utf8)))
        let issuer = world.issuer(world.settings([["a.test"]]))
        let task = Task { await issuer.run() }
        try await eventually(within: .seconds(30)) { world.troubles.count == 1 }
        #expect("\(world.troubles[0])".contains("acme/accounts/"))
        #expect("\(world.troubles[0])".contains("hopgate acme forget-account \(TestCA.directory)"))
        try await world.store.write(key, .remove(nil))
        try await published(world, "a.test")
        #expect(world.troubles.count == 1)
        task.cancel()
        await task.value
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
