import ACME
import Formats
import TestSupport
import Testing

@Suite("An order under bad conditions")
struct FaultTests {
    @Test("Half of all nonces refused: not one of 300 orders fails")
    func badNonces() async throws {
        for seed in 0..<UInt64(testSeeds(default: 300)) {
            await Task.yield()
            let world = World(seed: seed)
            world.ca.faults.badNonce = 0.5
            _ = try world.issue()
            #expect(world.ca.violations == [] && world.ca.orders.count == 1)
        }
    }

    @Test("A CA that refuses every nonce is asked eleven times at once, five more times after pauses, and no more")
    func onlyBadNonces() throws {
        let world = World()
        world.ca.faults.badNonce = 1
        let failure = try world.failure()
        #expect(failure.code == .badNonce && failure.retry == .backOff)
        // The directory, a nonce, and the request eleven times, six times over.
        #expect(world.ca.requests == 2 + 66)
        #expect((15_500...52_000).contains(world.milliseconds))
    }

    @Test("A CA that is away is tried six times within the back-off of 1 s · 2ⁿ ± 50 %")
    func away() throws {
        for seed in 0..<50 as Range<UInt64> {
            let world = World(seed: seed)
            world.ca.faults.lostRequest = 1
            let failure = try world.failure()
            #expect(failure.code == .unavailable && failure.mayTryNextAuthority && failure.step == .directory)
            #expect(world.ca.requests == 6)
            #expect((15_500...48_000).contains(world.milliseconds))
        }
    }

    @Test("Server errors are distinguished from outages, and Retry-After of a 503 is honoured")
    func serverErrors() throws {
        let world = World()
        world.ca.tamper = { request, response in
            guard request.url.text.hasSuffix("/order-plz") else { return }
            response = world.ca.problem(
                500,
                "serverInternal",
                "out of order",
                [ACMEResponse.Field("Retry-After", "40")]
            )
        }
        let failure = try world.failure()
        #expect(failure.code == .serverInternal && failure.detail == "out of order" && failure.mayTryNextAuthority)
        #expect((200_000...220_000).contains(world.milliseconds))
        guard case .notBefore = failure.retry else {
            Issue.record("the CA's time is lost")
            return
        }
    }

    @Test("A POST that the HTTP client has repeated by itself counts as repeated: a CA that has processed it is asked")
    func silentRepetition() throws {
        let world = World()
        world.isRepeated = { [unowned world] request in
            defer { if request.url.text.contains("/finalize/") { world.isRepeated = { _ in false } } }
            return request.url.text.contains("/finalize/")
        }
        // This CA does not say that an order is finalized already.
        world.ca.tamper = { [ca = world.ca] request, response in
            guard request.url.text.contains("/finalize/"), response.status == 403 else { return }
            response = ca.problem(400, "malformed", "no such order")
        }
        _ = try world.issue()
        #expect(world.ca.orders.count == 1)
    }

    struct Faulty {
        var leaders = 0
        var requests = 0
        var milliseconds: Int64 = 0
        var mostLeaders = 0
    }

    @Test("Everything at once over thousands of seeds: a certificate, one account, one order", arguments: 0..<2)
    func everything(_ half: UInt64) async throws {
        var facts = Faulty()
        let seeds = UInt64(testSeeds(default: 2_000))
        for seed in stride(from: half, to: seeds, by: 2) {
            await Task.yield()
            try run(seed, &facts)
        }
        print("NOTE \(seeds / 2) seeds of \(half): \(facts)")
    }

    private func run(_ seed: UInt64, _ facts: inout Faulty) throws {
        var generator = SeededGenerator(seed: seed)
        let names = [["a.test"], ["a.test", "*.a.test"], ["a.test", "b.test", "192.0.2.1"]][Int(generator.next() % 3)]
        let world = World(names, seed: seed)
        world.ca.faults = TestCA.Faults(
            badNonce: [0, 0.05, 0.5][Int(generator.next() % 3)],
            serverError: [0, 0.1, 0.3][Int(generator.next() % 3)],
            lostRequest: [0, 0.1][Int(generator.next() % 2)],
            lostAnswer: [0, 0.1, 0.2][Int(generator.next() % 3)]
        )
        world.ca.retryAfter = TestCA.Waits.allCases[Int(generator.next() % 3)]
        world.ca.retrySeconds = Int64(generator.next() % 30)
        world.ca.validationTime = Int64(generator.next() % 60)
        world.ca.issuanceTime = Int64(generator.next() % 60)
        world.ca.clockOffset = Int64(generator.next() % 200_000) - 100_000
        if generator.chance(0.2) { world.ca.rateLimitedUntil = World.start + world.ca.clockOffset + 50 }
        if generator.chance(0.3) { world.ca.profiles = ["p": ""] }
        let crashes = [0, 0.02, 0.1][Int(generator.next() % 3)] as Double
        let authority = world.plan.authority.id
        var state = RenewalState()
        var leaders = 0
        while true {
            leaders += 1
            guard leaders < 300 else {
                Issue.record("seed \(seed): no certificate after \(leaders) leaders; \(state)")
                return
            }
            // A few seeds are so unlucky that they do not get there before the faults end.
            let isCalm = leaders > 280
            if isCalm { world.ca.faults = TestCA.Faults() }
            let crash: World.Crash? =
                !isCalm && generator.chance(crashes * 10) ? .after(Int(generator.next() % 30)) : nil
            switch try world.lead(crash) {
            case .issued(let certificate):
                #expect(Set(certificate.facts.names) == Set(world.plan.names), "seed \(seed)")
                #expect(world.ca.violations == [], "seed \(seed)")
                #expect(world.ca.accounts.count == 1, "seed \(seed)")
                // A leader that gave up has cleaned up: what the CA looks for later it does not find.
                #expect(world.ca.orders.values.filter { $0.status != "invalid" }.count == 1, "seed \(seed)")
                #expect(world.ca.issuedCount == 1, "seed \(seed)")
                #expect(world.board.isEmpty, "seed \(seed)")
                facts.leaders += leaders
                facts.mostLeaders = max(facts.mostLeaders, leaders)
                facts.requests += world.ca.requests
                facts.milliseconds += world.milliseconds
                return
            case .failed(let failure):
                let now = world.now.wall + world.ca.clockOffset
                state = RetryPolicy.failed(
                    failure,
                    authority: authority,
                    state: state,
                    settings: "s",
                    now: now,
                    random: generator.next()
                )
                // Through the store and back.
                state = try RenewalState(json: state.json, place: "state")
                let next = RetryPolicy.next(state, authorities: [authority], settings: "s", now: now)
                if case .wait(let until) = next { world.milliseconds += (until - now) * 1_000 }
                #expect(failure.code != .badAnswer && failure.code != .wrongCertificate, "seed \(seed): \(failure)")
            case .crashed: world.milliseconds += 15_000
            case .accountReady: Issue.record("no account was wanted")
            }
        }
    }

    enum Scene: CaseIterable {
        case plain, slow, wildcard, authorizedPartly
    }

    @Test("The leader dies at every single step, and a successor ends the same order", arguments: Scene.allCases)
    func crashes(_ scene: Scene) throws {
        for isAfter in [false, true] {
            var count = 0
            while true {
                let world = self.world(scene)
                let outcome = try world.lead(isAfter ? .after(count) : .before(count))
                guard outcome == .crashed else {
                    #expect(count > 15)
                    break
                }
                world.milliseconds += 15_000
                let certificate = try world.issue()
                #expect(Set(certificate.facts.names) == Set(world.plan.names))
                #expect(world.ca.violations == [])
                #expect(world.ca.accounts.count == 1 && world.ca.orders.count == 1, "\(scene), step \(count)")
                #expect(world.ca.issuedCount == 1)
                #expect(world.board.isEmpty)
                count += 1
            }
        }
    }

    @Test("A second leader may die as well, wherever the first one did")
    func twoCrashes() throws {
        for first in 0..<24 {
            for second in 0..<24 {
                let world = self.world(.slow)
                _ = try world.lead(.after(first))
                _ = try world.lead(.after(second))
                // The order may be done already; then this is a renewal.
                let isDone = world.ca.issuedCount == 1 && world.order == nil
                _ = try world.issue()
                #expect(world.ca.orders.count == (isDone ? 2 : 1), "\(first), \(second)")
            }
        }
    }

    private func world(_ scene: Scene) -> World {
        let world = World(scene == .wildcard ? ["a.test", "*.a.test"] : ["a.test", "b.test"])
        if scene == .slow {
            world.ca.validationTime = 3
            world.ca.issuanceTime = 3
        }
        if scene == .authorizedPartly {
            world.ca.tamper = { request, _ in
                guard request.url.text.hasSuffix("/order-plz") else { return }
                let right = world.ca.rights.first { $0.value.name.value == "a.test" }
                if let right { world.ca.rights[right.key]?.status = "valid" }
            }
        }
        return world
    }

    @Test("A successor makes a new order only where the old one is gone or no longer good")
    func deadOrder() throws {
        for change in 0..<4 {
            let world = World()
            world.failsPresentation = "later"
            _ = try world.failure()
            #expect(world.order != nil && world.ca.orders.count == 1)
            world.failsPresentation = nil
            let url = world.ca.orders.keys.first!
            switch change {
            case 0: world.ca.orders[url]?.status = "invalid"
            case 1: world.ca.orders[url]?.account = "https://ca.test/acct/other"
            case 2:
                for right in world.ca.rights.keys { world.ca.rights[right]?.status = "expired" }
                world.ca.tamper = { request, _ in
                    guard request.url.text.hasSuffix("/order-plz") else { return }
                    world.ca.tamper = nil
                }
                world.ca.reusesOrders = false
            default: break
            }
            _ = try world.issue()
            #expect(world.ca.orders.count == (change == 3 ? 1 : 2), "\(change)")
            #expect(world.ca.violations == [])
        }
    }

    @Test("A record for other names, another profile or another CA is not used")
    func foreignRecord() throws {
        let world = World()
        world.ca.profiles = ["p": ""]
        world.failsPresentation = "later"
        _ = try world.failure()
        world.failsPresentation = nil
        world.plan.profile = "p"
        world.ca.reusesOrders = false
        _ = try world.issue()
        #expect(world.ca.orders.count == 2)
    }
}
