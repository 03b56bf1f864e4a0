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

    private func challenge(_ name: String, _ keyAuthorization: String = "token.print") throws -> ALPNChallenge {
        try ALPNChallenge(name: try #require(CertificateName(name)), keyAuthorization: keyAuthorization)
    }

    private var names: [String] { challenges.names.map(\.description) }

    @Test("Connections are inspected only while a challenge is pending")
    func pending() throws {
        #expect(!challenges.isPending(start))
        try challenges.add(challenge("app.test"), now: start)
        #expect(challenges.isPending(start))
        try challenges.remove(challenge("app.test"), now: start)
        #expect(!challenges.isPending(start))
        #expect(names.isEmpty)
    }

    @Test("A challenge expires after its lifetime, and is prolonged by being added again")
    func lifetime() throws {
        try challenges.add(challenge("app.test"), now: start)
        let later = start + ALPNChallenges.lifetime - .seconds(1)
        try challenges.add(challenge("app.test"), now: later)
        #expect(challenges.isPending(start + ALPNChallenges.lifetime))
        #expect(!challenges.isPending(later + ALPNChallenges.lifetime))
        try challenges.add(challenge("b.test"), now: later + ALPNChallenges.lifetime)
        #expect(names == ["b.test"])
    }

    @Test("A newer challenge for a name replaces the older one, whose removal has no effect on it")
    func newer() throws {
        try challenges.add(challenge("app.test", "old.print"), now: start)
        try challenges.add(challenge("app.test", "new.print"), now: start)
        try challenges.remove(challenge("app.test", "old.print"), now: start)
        #expect(names == ["app.test"])
        try challenges.remove(challenge("app.test", "new.print"), now: start)
        #expect(names.isEmpty)
    }

    @Test("Replacing adds, keeps and removes challenges; the later of two for one name is used")
    func replace() throws {
        try challenges.add(challenge("a.test"), now: start)
        try challenges.add(challenge("b.test"), now: start)
        let problems = challenges.replace(
            with: [try challenge("b.test"), try challenge("c.test", "x.y"), try challenge("c.test")],
            now: start
        )
        #expect(problems.isEmpty)
        #expect(names == ["b.test", "c.test"])
        try challenges.remove(challenge("c.test", "x.y"), now: start)
        #expect(names == ["b.test", "c.test"])
        #expect(challenges.replace(with: [], now: start).isEmpty)
        #expect(!challenges.isPending(start))
    }

    @Test("A name beyond the limit is rejected with an error, and the others stay")
    func limit() throws {
        let all = try (0..<ALPNChallenges.limit).map { try challenge("n\($0).test") }
        #expect(challenges.replace(with: all, now: start).isEmpty)
        let error = #expect(throws: CertificatesError.self) { try challenges.add(challenge("app.test"), now: start) }
        #expect(error?.path == "app.test")
        #expect(error?.reason.contains("1000 names") == true)
        #expect(names.count == ALPNChallenges.limit)
        try challenges.add(challenge("n0.test", "other.print"), now: start)
    }
}
