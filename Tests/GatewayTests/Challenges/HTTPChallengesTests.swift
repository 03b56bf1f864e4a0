import ACME
import Certificates
import Gateway
import Logging
import NIOCore
import NIOPosix
import Observability
import Store
import Testing

@Suite("Looking up challenges that are not known yet")
struct HTTPChallengesTests {
    /// Challenges over a store whose reads can be delayed.
    private final class Rig: Sendable {
        let store = HeldStore()
        let pending = PendingChallenges(keyring: { challengeKeyring })
        let challenges: HTTPChallenges
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let task: Task<Void, Never>

        init() {
            let challenges = HTTPChallenges(
                pending: pending,
                store: store,
                metrics: MetricsRegistry(namespace: "hopgate"),
                logger: quiet
            )
            self.challenges = challenges
            task = Task { await challenges.run() }
        }

        deinit { task.cancel() }

        func lookUp(_ token: String, at now: NIODeadline = .now()) -> HTTPChallenges.Lookup {
            challenges.lookUp(token, for: nil, on: loop, now: now)
        }

        func put(_ task: ChallengeTask) async throws {
            try await store.inner.write(task.storeKey, .create(task.sealedDocument))
        }
    }

    private struct NotPending: Error {}

    private func future(_ lookup: HTTPChallenges.Lookup) throws -> EventLoopFuture<ChallengeTask?> {
        guard case .pending(let future) = lookup else {
            Issue.record("no read: \(lookup)")
            throw NotPending()
        }
        return future
    }

    @Test("Concurrent requests for a challenge share one read, after which it is known")
    func once() async throws {
        let rig = Rig()
        try await rig.put(try challenge("token"))
        rig.store.hold(true)
        let futures = try (0..<50).map { _ in try future(rig.lookUp("token")) }
        rig.store.hold(false)
        for future in futures {
            #expect(try await future.get()?.keyAuthorization == "token.\(thumbprint)")
        }
        #expect(rig.store.reads == 1)
        guard case .known(_?) = rig.lookUp("token") else {
            Issue.record("not known")
            return
        }
        #expect(rig.store.reads == 1)
    }

    @Test("Only HTTP-01 challenges are answered, and a token that is not read is unknown")
    func unknown() async throws {
        let rig = Rig()
        try await rig.put(try challenge("alpn", .tlsALPN01))
        #expect(try await future(rig.lookUp("alpn")).get()?.keyAuthorization == nil)
        let now = NIODeadline.now()
        #expect(try await future(rig.lookUp("missing", at: now)).get()?.keyAuthorization == nil)
        guard case .known(nil) = rig.lookUp("missing", at: now) else {
            Issue.record("read again")
            return
        }
    }

    @Test(
        "Only a path that ends with a token is one of a challenge",
        arguments: [
            "", "a/b", "a%2eb", "%2e%2e", "..", ".", "a.b", "a b", "a\0b", "ä", "a=", "a;b", "a\\b", "../a", "/a",
            String(repeating: "a", count: 129), String(repeating: "a", count: 10_000), "a\u{301}", "ａ",
        ]
    )
    func paths(rest: String) {
        #expect(HTTPChallenges.token(in: (challengePath + rest)[...]) == nil)
        #expect(HTTPChallenges.token(in: ("/x" + challengePath + "a")[...]) == nil)
        #expect(HTTPChallenges.token(in: "/.well-known/acme-challenge") == nil)
        #expect(HTTPChallenges.token(in: "/.Well-known/acme-challenge/a") == nil)
        let longest = String(repeating: "-", count: 128)
        #expect(HTTPChallenges.token(in: (challengePath + longest)[...]) == longest)
    }
}
