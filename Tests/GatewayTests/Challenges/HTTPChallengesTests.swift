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
        let table = ChallengeTable()
        let challenges: HTTPChallenges
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let task: Task<Void, Never>

        init() {
            let challenges = HTTPChallenges(
                table: table,
                store: store,
                metrics: MetricsRegistry(namespace: "hopgate"),
                logger: quiet
            )
            self.challenges = challenges
            task = Task { await challenges.run() }
        }

        deinit { task.cancel() }

        func lookUp(_ token: String, at now: NIODeadline = .now()) -> HTTPChallenges.Lookup {
            challenges.lookUp(token, on: loop, now: now)
        }

        func put(_ task: ChallengeTask) async throws {
            _ = try await store.inner.create(task.storeKey, task.document)
        }
    }

    private struct NotPending: Error {}

    private func future(_ lookup: HTTPChallenges.Lookup) throws -> EventLoopFuture<HTTPChallenges.Outcome> {
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
            guard case .answer(let answer) = try await future.get() else {
                Issue.record("not answered")
                continue
            }
            #expect(answer.keyAuthorization == "token.\(thumbprint)")
        }
        #expect(rig.store.reads == 1)
        guard case .known(.answer) = rig.lookUp("token") else {
            Issue.record("not known")
            return
        }
        #expect(rig.store.reads == 1)
    }

    @Test("Look-ups beyond the limit of concurrent reads are refused until a read finishes")
    func bounded() async throws {
        let rig = Rig()
        rig.store.hold(true)
        let futures = try (0..<HTTPChallenges.readLimit).map { try future(rig.lookUp("t\($0)")) }
        guard case .busy = rig.lookUp("one-more") else {
            Issue.record("not refused")
            return
        }
        rig.store.hold(false)
        for future in futures { _ = try await future.get() }
        _ = try await future(rig.lookUp("one-more")).get()
    }

    @Test("A missing token is not read again for a quarter of a second")
    func negative() async throws {
        let rig = Rig()
        let before = NIODeadline.now()
        _ = try await future(rig.lookUp("token")).get()
        guard case .known(.unknown) = rig.lookUp("token", at: before + .milliseconds(200)) else {
            Issue.record("read again")
            return
        }
        try await rig.put(try challenge("token"))
        let later = NIODeadline.now() + HTTPChallenges.unknownLifetime
        guard case .answer = try await future(rig.lookUp("token", at: later)).get() else {
            Issue.record("not found later")
            return
        }
    }

    @Test("After a failed read the next request reads again, and only HTTP-01 challenges are answered")
    func failures() async throws {
        let rig = Rig()
        try await rig.put(try challenge("token"))
        rig.store.fail(StoreError(.stalled, "x", "hangs"))
        guard case .unknown = try await future(rig.lookUp("token")).get() else {
            Issue.record("answered")
            return
        }
        rig.store.fail(nil)
        guard case .answer = try await future(rig.lookUp("token")).get() else {
            Issue.record("not answered")
            return
        }
        try await rig.put(try challenge("alpn", .tlsALPN01))
        guard case .unknown = try await future(rig.lookUp("alpn")).get() else {
            Issue.record("answered")
            return
        }
    }

    @Test("Waiting requests are completed when reading ends")
    func closed() async throws {
        let rig = Rig()
        rig.store.hold(true)
        let waiting = try future(rig.lookUp("token"))
        rig.task.cancel()
        rig.store.hold(false)
        _ = try await waiting.get()
        await rig.task.value
        guard case .known(.unknown) = rig.lookUp("other") else {
            Issue.record("waits")
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
