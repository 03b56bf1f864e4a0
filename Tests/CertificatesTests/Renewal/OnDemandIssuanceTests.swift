import ACME
import Certificates
import Formats
import Foundation
import Store
import Synchronization
import TestSupport
import Testing

@Suite("Certificates on demand")
struct OnDemandIssuanceTests {
    let scratch = ScratchFolder()

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
        world.start(issuer)
        for host in ["other.test", "*.hosts.test", "192.0.2.1", "no name", "early.hosts.test"] {
            issuer.requestCertificate(for: host)
        }
        try await world.published("early.hosts.test")
        issuer.requestCertificate(for: "late.hosts.test")
        try await world.published("late.hosts.test")
        #expect(issuer.statuses.count == 2 && issuer.statuses.allSatisfy { $0.isOnDemand })
        await world.stop()
        // A restarted gateway has no budget of its own. The host that was granted costs nothing again.
        let again = world.issuer(settings)
        world.start(again)
        for host in ["third.hosts.test", "early.hosts.test"] { again.requestCertificate(for: host) }
        try await eventually(within: .seconds(30)) {
            again.statuses.map { $0.names[0].description } == ["early.hosts.test"]
        }
        #expect(world.orders == 2)
        await world.stop()
    }

    @Test("A client that asks for 10,000 random names causes no renewer, no order and no access to the store")
    func randomNames() async throws {
        let world = IssuingWorld()
        let issuer = world.issuer(onDemand(world, perMinute: 10))
        world.start(issuer)
        for _ in 0..<10_000 { issuer.requestCertificate(for: "\(UInt64.random(in: .min ... .max)).wild.test") }
        #expect(issuer.statuses.isEmpty && issuer.waitingCount == 0 && world.orders == 0)
        await #expect(throws: StoreError.self) { try await world.store.read(RenewalRecords.budget) }
        await world.stop()
    }

    @Test("An agent that offers 10,000 names gets as many certificates as its token may have, and the others wait")
    func manyNames() async throws {
        let world = IssuingWorld()
        let issuer = world.issuer(onDemand(world, perMinute: 10, perWeek: 6))
        world.start(issuer)
        for number in 0..<10_000 { issuer.requestCertificate(for: "\(number).hosts.test") }
        try await eventually(within: .seconds(30)) { issuer.statuses.count == 3 }
        #expect(issuer.waitingCount <= WaitingHosts.limit)
        try await eventually(within: .seconds(30)) {
            world.events.withLock { events in
                events.contains { if case .budgetUsedUp = $0 { true } else { false } }
            }
        }
        #expect(issuer.statuses.count == 3 && world.orders <= 3)
        await world.stop()
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
        world.start(issuer)
        try await world.published("a.test")
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
        await world.stop()
    }
}
