import ACME
import Formats
import NIOCore
import TestSupport
import Testing

@Suite("An order")
struct OrderTests {
    @Test("From the directory to a certificate that fits its key, with the fewest requests")
    func plain() throws {
        let world = World(["a.test"])
        let certificate = try world.issue()
        #expect(certificate.facts.names == [.dns("a.test")])
        try expectFittingKey(certificate)
        #expect(world.ca.violations == [])
        #expect(
            world.ca.signedRequests.map { $0.split(separator: "/").first } == [
                "sign-me-up", "order-plz", "authz", "chall", "authz", "order", "finalize", "order", "cert",
            ]
        )
        // The directory and one nonce beside them: every answer has the next nonce.
        #expect(world.ca.requests == world.ca.signedRequests.count + 2)
        #expect(world.board.isEmpty && world.order == nil)
        let account = try AccountRecord(json: world.account, place: "account")
        #expect(account.url != nil && account.contacts == ["admin@a.test"])
    }

    @Test("A second order uses the account and a new key")
    func second() throws {
        let world = World()
        let first = try world.issue()
        let second = try world.issue()
        #expect(first.key != second.key)
        #expect(world.ca.accounts.count == 1 && world.ca.orders.count == 2)
        #expect(world.ca.signedRequests.filter { $0 == "/sign-me-up" }.count == 1)
    }

    @Test("Many names, a wildcard and addresses are answered for together")
    func many() throws {
        let world = World(["a.test", "*.a.test", "b.test", "192.0.2.7", "2001:db8::1"])
        let certificate = try world.issue()
        #expect(Set(certificate.facts.names) == Set(world.plan.names))
        #expect(world.tasks.count == 5)
        let wildcard = try #require(world.tasks.first { $0.kind == .dns01 })
        #expect(wildcard.name == .dns("a.test") && wildcard.recordName == "_acme-challenge.a.test")
        #expect(Base64URL.decode(wildcard.recordValue)?.count == 32)
        #expect(world.tasks.filter { $0.kind == .http01 }.count == 4)
        #expect(
            Set(world.tasks.map(\.serverName)) == [
                "a.test", "b.test", "7.2.0.192.in-addr.arpa",
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            ]
        )
        let request = try #require(world.ca.payloads.first { $0.path == "/order-plz" }).payload
        #expect(
            request?["identifiers"]
                == .array([
                    .object(["type": .string("dns"), "value": .string("a.test")]),
                    .object(["type": .string("dns"), "value": .string("*.a.test")]),
                    .object(["type": .string("dns"), "value": .string("b.test")]),
                    .object(["type": .string("ip"), "value": .string("192.0.2.7")]),
                    .object(["type": .string("ip"), "value": .string("2001:db8::1")]),
                ])
        )
    }

    @Test("The first kind of challenge that is configured and offered is used", arguments: ChallengeKind.allCases)
    func preference(_ kind: ChallengeKind) throws {
        let world = World()
        world.plan.challenges = [kind] + ChallengeKind.allCases
        _ = try world.issue()
        #expect(world.tasks.map(\.kind) == [kind])
    }

    @Test("If none of the offered challenges may be used, the error lists both sets and the order is kept")
    func noChallenge() throws {
        let world = World(["*.a.test"])
        world.plan.challenges = [.http01, .tlsALPN01]
        let failure = try world.failure()
        #expect(failure.code == .noUsableChallenge && failure.identifier == "a.test")
        #expect(failure.detail.contains("dns-01") && failure.detail.contains("none can be used for a wildcard"))
        #expect(failure.retry == .afterADay && failure.keepsOrder)
        world.plan.challenges = [.dns01]
        _ = try world.issue()
        #expect(world.ca.orders.count == 1)
        let address = World(["192.0.2.7"])
        address.plan.challenges = [.dns01]
        #expect(try address.failure().code == .noUsableChallenge)
    }

    @Test("Names that are authorized already are not presented")
    func authorized() throws {
        let world = World(["a.test", "b.test"])
        world.ca.tamper = { request, _ in
            guard request.url.text.hasSuffix("/order-plz") else { return }
            let right = world.ca.rights.first { $0.value.name.value == "a.test" }
            world.ca.rights[right!.key]?.status = "valid"
        }
        _ = try world.issue()
        #expect(world.tasks.map(\.name) == [.dns("b.test")])
        world.ca.tamper = { _, _ in
            for url in world.ca.rights.keys { world.ca.rights[url]?.status = "valid" }
        }
        world.tasks = []
        _ = try world.issue()
        #expect(world.tasks.isEmpty)
    }

    @Test("A response that validators do not find is reported in the CA's words, with the name, and removed")
    func invalid() throws {
        let world = World(["a.test", "b.test"])
        world.ca.validators = { $0.name == .dns("a.test") }
        let failure = try world.failure()
        #expect(failure.code == .connection && failure.identifier == "b.test" && failure.step == .authorization)
        #expect(failure.detail == "nothing was found for b.test")
        #expect(failure.retry == .backOff && !failure.keepsOrder && !failure.mayTryNextAuthority)
        #expect("\(failure)".contains("port 80"))
        #expect(world.board.isEmpty && !world.tasks.isEmpty)
        // The order is dead; the next attempt makes a new one.
        world.ca.validators = { _ in true }
        _ = try world.issue()
        #expect(world.ca.orders.count == 2)
    }

    @Test("A presentation that failed keeps the order")
    func presentation() throws {
        let world = World()
        world.failsPresentation = "the hook ended with status 1\u{1b}[31m"
        let failure = try world.failure()
        #expect(failure.code == .presentationFailed && failure.keepsOrder)
        #expect(failure.detail == "the hook ended with status 1?[31m")
        world.failsPresentation = nil
        _ = try world.issue()
        #expect(world.ca.orders.count == 1)
    }

    @Test("Retry-After is kept to in both forms, also where the CA's clock is wrong", arguments: TestCA.Waits.allCases)
    func retryAfter(_ waits: TestCA.Waits) throws {
        let world = World()
        world.ca.retryAfter = waits
        world.ca.retrySeconds = 20
        world.ca.clockOffset = -100_000
        world.ca.validationTime = 45
        world.ca.issuanceTime = 45
        _ = try world.issue()
        let polls = world.ca.signedRequests.filter { $0.hasPrefix("/authz/") }.count
        if waits == .none {
            #expect(polls > 10 && polls < 25)
            #expect(world.milliseconds < 110_000)
        } else {
            // One before the presentation, one right after it, then every 20 seconds.
            #expect(polls == 5)
            #expect((100_000..<150_000).contains(world.milliseconds))
        }
    }

    @Test("A CA that never gets done costs ten minutes, and the order is kept")
    func processing() throws {
        for waits in TestCA.Waits.allCases {
            let world = World()
            world.ca.retryAfter = waits
            world.ca.issuanceTime = 900
            let failure = try world.failure()
            #expect(failure.code == .timedOut && failure.keepsOrder)
            #expect((590_000...610_000).contains(world.milliseconds))
            world.milliseconds += 400_000
            _ = try world.issue()
            #expect(world.ca.orders.count == 1)
        }
    }

    @Test("A long Retry-After moves the end; one that is too long ends with the time when to go on")
    func longRetryAfter() throws {
        let world = World()
        world.ca.retryAfter = .date
        world.ca.retrySeconds = 1_200
        world.ca.issuanceTime = 1_100
        _ = try world.issue()
        #expect((1_200_000..<1_210_000).contains(world.milliseconds))

        let later = World()
        later.ca.retryAfter = .seconds
        later.ca.retrySeconds = 7_200
        later.ca.issuanceTime = 7_000
        let failure = try later.failure()
        #expect(failure.code == .timedOut && failure.keepsOrder)
        #expect(later.milliseconds < 10_000)
        guard case .notBefore(let time) = failure.retry else {
            Issue.record("no time: \(failure.retry)")
            return
        }
        #expect(abs(time - (later.now.wall + 7_200)) <= 2)
        later.milliseconds += 7_200_000
        _ = try later.issue()
        #expect(later.ca.orders.count == 1)
    }

    @Test("Only the account: registered, updated when the contacts change, and left alone otherwise")
    func accountOnly() throws {
        let world = World()
        func check() throws -> ACMEDirectory? {
            var machine = OrderMachine(
                accountOnly: world.plan.authority,
                account: try AccountRecord(json: world.account, place: "account"),
                random: { 7 }
            )
            var action = machine.start(now: world.now)
            for _ in 0..<20 {
                switch action {
                case .send(let request):
                    let answer = try #require(world.ca.answer(request, now: world.now.wall))
                    action = machine.received(answer, now: world.now)
                case .storeAccount(let record):
                    world.account = record.json
                    action = machine.stored(now: world.now)
                case .accountReady(let directory): return directory
                default:
                    Issue.record("\(action)")
                    return nil
                }
            }
            return nil
        }
        #expect(try check() != nil)
        #expect(world.ca.signedRequests == ["/sign-me-up"])
        #expect(try check() != nil)
        #expect(world.ca.signedRequests == ["/sign-me-up"])
        world.plan.authority.contacts = ["other@a.test"]
        #expect(try check() != nil)
        #expect(world.ca.signedRequests.count == 2)
        #expect(world.ca.accounts.values.first?.contacts == [.string("mailto:other@a.test")])
        #expect(world.ca.violations == [])
    }
}
