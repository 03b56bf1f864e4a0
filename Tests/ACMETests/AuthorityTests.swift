import ACME
import Formats
import TestSupport
import Testing

@Suite("Requirements of CAs beside an order")
struct AuthorityTests {
    static let external = ExternalAccount(
        keyID: "kid-1",
        key: Base64URL.encode(Array("the mac key of the tests".utf8))
    )!

    @Test("An external account is bound; without one the order fails before anything is sent")
    func externalAccount() throws {
        let world = World()
        world.ca.externalAccount = Self.external
        let failure = try world.failure()
        #expect(failure.code == .externalAccountRequired && failure.retry == .afterADay)
        #expect(world.ca.signedRequests == [])
        world.plan.authority.externalAccount = Self.external
        _ = try world.issue()
        #expect(world.ca.violations == [] && world.ca.accounts.count == 1)
        let other = World()
        other.ca.externalAccount = Self.external
        other.plan.authority.externalAccount = ExternalAccount(keyID: "kid-1", key: "AAAA")
        let refused = try other.failure()
        #expect(refused.code == .externalAccountRequired && refused.step == .account)
    }

    @Test("The MAC key is read as base64url and as ordinary base 64", arguments: ["-_8", "+/8=", "-_8="])
    func externalKey(_ text: String) {
        #expect(ExternalAccount(keyID: "k", key: text) == ExternalAccount(keyID: "k", key: "-_8"))
        #expect(ExternalAccount(keyID: "k", key: "?") == nil)
        #expect(ExternalAccount(keyID: "", key: text) == nil)
        #expect("\(ExternalAccount(keyID: "k", key: text)!)" == "external account k")
    }

    @Test("A registration agrees to the terms of service")
    func terms() throws {
        let world = World()
        world.ca.terms = "https://example.test/terms"
        _ = try world.issue()
    }

    @Test("A profile is passed where the directory lists it")
    func profile() throws {
        let world = World()
        world.ca.profiles = ["classic": "90 days", "shortlived": "6 days"]
        world.plan.profile = "shortlived"
        _ = try world.issue()
        #expect(world.ca.orders.values.first?.profile == "shortlived")
        world.plan.profile = "longlived"
        let failure = try world.failure()
        #expect(failure.code == .profileNotOffered && failure.detail.contains("classic, shortlived"))
        world.ca.profiles = [:]
        #expect(try world.failure().detail.contains("none"))
    }

    @Test("The certificate that is replaced is named, where the CA has renewal information")
    func replaces() throws {
        let world = World()
        world.plan.replaces = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
        _ = try world.issue()
        #expect(world.ca.payloads.last { $0.path == "/order-plz" }?.payload?["replaces"] == nil)
        world.ca.offersRenewalInfo = true
        _ = try world.issue()
        let payload = world.ca.payloads.last { $0.path == "/order-plz" }?.payload
        #expect(payload?["replaces"] == .string("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"))
    }

    @Test(
        "replaces is dropped once if it is refused",
        arguments: ["alreadyReplaced", "malformed", "unauthorized", "x"]
    )
    func refusedReplaces(_ type: String) throws {
        let world = World()
        world.ca.offersRenewalInfo = true
        world.ca.refusedReplaces = type
        world.plan.replaces = "a.b"
        _ = try world.issue()
        #expect(world.ca.signedRequests.filter { $0 == "/order-plz" }.count == 2)
        #expect(world.ca.orders.count == 1)
    }

    @Test("A rate limit yields the time of the next attempt by the CA's clock, and allows another CA")
    func rateLimit() throws {
        let world = World()
        world.ca.clockOffset = 5_000
        let until = World.start + 5_000 + 3_600
        world.ca.rateLimitedUntil = until
        let failure = try world.failure()
        #expect(failure.code == .rateLimited && failure.retry == .notBefore(until))
        #expect(failure.mayTryNextAuthority && failure.detail == "too many certificates")
    }

    @Test("A forbidden name is reported from the subproblem, and not tried again within a day")
    func rejected() throws {
        let world = World(["a.test", "bad.test"])
        world.ca.rejectedNames = ["bad.test"]
        let failure = try world.failure()
        #expect(failure.code == .rejectedIdentifier && failure.identifier == "bad.test")
        #expect(failure.detail == "bad.test is forbidden" && failure.retry == .afterADay)
        #expect(!failure.mayTryNextAuthority)
    }

    @Test("userActionRequired tells where a person has to go")
    func userAction() throws {
        let world = World()
        world.ca.tamper = { request, response in
            guard request.url.text.hasSuffix("/order-plz") else { return }
            response = world.ca.problem(
                403,
                "userActionRequired",
                "the terms have changed",
                [ACMEResponse.Field("Link", "<https://ca.test/terms-2>;rel=\"terms-of-service\"")]
            )
        }
        let failure = try world.failure()
        #expect(failure.code == .userActionRequired && failure.instance == "https://ca.test/terms-2")
        #expect(failure.retry == .afterADay)
    }

    @Test("A closed account is reported")
    func closed() throws {
        let world = World()
        world.ca.tamper = { request, response in
            guard request.url.text.hasSuffix("/sign-me-up") else { return }
            response = ACMEResponse(status: 200, fields: response.fields, body: Array(#"{"status":"revoked"}"#.utf8))
        }
        #expect(try world.failure().code == .accountClosed)
    }

    @Test("An account that the CA forgot is registered again with the same key, and a new order made")
    func forgotten() throws {
        let world = World()
        _ = try world.issue()
        world.ca.restart()
        _ = try world.issue()
        #expect(world.ca.signedRequests.filter { $0 == "/sign-me-up" }.count == 2)
        #expect(world.ca.violations == [])
    }

    @Test("A CA that forgets everything at any request costs one more order", arguments: 1...18)
    func restarted(_ request: Int) throws {
        let world = World(["a.test", "b.test"])
        world.ca.tamper = { _, _ in
            if world.ca.requests == request { world.ca.restart() }
        }
        let outcome = try world.lead()
        guard case .issued = outcome else {
            // The answer that was under way named what is gone: the next attempt does it.
            guard case .failed = outcome else {
                Issue.record("\(outcome)")
                return
            }
            _ = try world.issue()
            return
        }
        #expect(world.ca.violations == [])
    }

    @Test("An account that stays unknown after it was registered again ends the order")
    func unknown() throws {
        let world = World()
        world.ca.tamper = { request, response in
            guard request.url.text.hasSuffix("/order-plz") else { return }
            response = world.ca.problem(400, "accountDoesNotExist", "who?")
        }
        #expect(try world.failure().code == .accountDoesNotExist)
        #expect(world.ca.signedRequests.filter { $0 == "/sign-me-up" }.count == 2)
    }

    @Test("An alternate chain is used if it has the preferred issuer, and the first one if none has it")
    func preferredIssuer() throws {
        let world = World()
        let first = try world.issue()
        #expect(!world.ca.signedRequests.contains { $0.hasSuffix("/other") })
        world.plan.preferredIssuer = "Other Root"
        let other = try world.issue()
        #expect(world.ca.signedRequests.last?.hasSuffix("/other") == true)
        #expect(first.chain.last != other.chain.last)
        world.plan.preferredIssuer = "Unknown Root"
        #expect(try world.issue().chain.last == first.chain.last)
        world.plan.preferredIssuer = "Test Root"
        #expect(try world.issue().chain.last == first.chain.last)
        #expect(world.ca.signedRequests.last?.hasSuffix("/other") == false)
    }
}
