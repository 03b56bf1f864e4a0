import ACME
import Certificates
import Gateway
import NIOCore
import Observability
import Testing

@Suite("Pending TLS-ALPN-01 challenges")
struct ALPNChallengesTests {
    private let challenges = ALPNChallenges(metrics: MetricsRegistry(namespace: "hopgate"))
    private let start = NIODeadline.uptimeNanoseconds(1_000_000_000)

    private let key = AccountKey()

    private func challenge(_ name: String, _ token: String = "token") throws -> ChallengeTask {
        ChallengeTask(.tlsALPN01, try #require(CertificateName(name)), token: token, key: key)
    }

    private var names: [String] { challenges.names.map(\.description) }

    @Test("Connections are inspected only while a challenge is pending")
    func pending() throws {
        #expect(!challenges.isPending(start))
        #expect(challenges.replace(with: [try challenge("app.test")], now: start).isEmpty)
        #expect(challenges.isPending(start))
        #expect(challenges.replace(with: [], now: start).isEmpty)
        #expect(!challenges.isPending(start))
        #expect(names.isEmpty)
    }

    @Test("A challenge expires after its lifetime, and is prolonged by another update")
    func lifetime() throws {
        let task = try challenge("app.test")
        #expect(challenges.replace(with: [task], now: start).isEmpty)
        let later = start + ALPNChallenges.lifetime - .seconds(1)
        #expect(challenges.replace(with: [task], now: later).isEmpty)
        #expect(challenges.isPending(start + ALPNChallenges.lifetime))
        #expect(!challenges.isPending(later + ALPNChallenges.lifetime))
    }

    @Test("Replacing adds, keeps and removes challenges; the later of two for one name is used")
    func replace() throws {
        let (a, b, old, new) = (
            try challenge("a.test"), try challenge("b.test"), try challenge("c.test", "old"), try challenge("c.test")
        )
        #expect(challenges.replace(with: [a, b], now: start).isEmpty)
        #expect(challenges.replace(with: [b, old, new], now: start).isEmpty)
        #expect(names == ["b.test", "c.test"])
        #expect(challenges.replace(with: [b, old], now: start).isEmpty)
        #expect(names == ["b.test", "c.test"])
    }

    @Test("A name beyond the limit is rejected with an error, and the others stay")
    func limit() throws {
        let all = try (0..<ALPNChallenges.limit).map { try challenge("n\($0).test") }
        #expect(challenges.replace(with: all, now: start).isEmpty)
        let problems = challenges.replace(with: all + [try challenge("app.test")], now: start)
        #expect(problems.map(\.path) == ["app.test"] && problems.first?.reason.contains("4096 names") == true)
        #expect(names.count == ALPNChallenges.limit)
        let changed = [try challenge("n0.test", "other")] + all.dropFirst()
        #expect(challenges.replace(with: changed, now: start).isEmpty)
    }
}
