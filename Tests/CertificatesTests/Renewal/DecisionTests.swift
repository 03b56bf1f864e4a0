import ACME
import Certificates
import Formats
import Testing

@Suite("The decision about a certificate")
struct DecisionTests {
    private static let now = UnixTime(seconds: 1_900_000_000)
    private static let cas = ["https://one.test/dir", "https://two.test/dir"]

    private func facts(_ names: [String], from start: Int64, to end: Int64) -> CertificateFacts {
        CertificateFacts(
            id: "id",
            names: names.map { CertificateName($0)! },
            notBefore: Self.now + start,
            notAfter: Self.now + end,
            renewalID: "key.serial"
        )
    }

    private func decide(_ situation: CertificateSituation, settings: String = "s") -> RenewalDecision {
        situation.decision(authorities: Self.cas, settings: settings, now: Self.now)
    }

    private func situation(_ names: [String] = ["a.test"], _ facts: CertificateFacts? = nil) -> CertificateSituation {
        CertificateSituation(names: names.map { CertificateName($0)! }, facts: facts)
    }

    @Test("A missing certificate is ordered from the first CA")
    func missing() {
        #expect(decide(situation()) == .order(authority: Self.cas[0]))
    }

    @Test("A young certificate rests until a third of its life is left")
    func young() {
        let day: Int64 = 86_400
        let found = decide(situation(["a.test"], facts(["a.test"], from: -10 * day, to: 80 * day)))
        guard case .idle(let until) = found else {
            Issue.record("\(found)")
            return
        }
        #expect(until <= Self.now + 50 * day && until > Self.now + 45 * day)
    }

    @Test("A certificate that is old, lacks a name or was requested again is ordered")
    func due() {
        let day: Int64 = 86_400
        #expect(
            decide(situation(["a.test"], facts(["a.test"], from: -80 * day, to: 10 * day)))
                == .order(authority: Self.cas[0])
        )
        #expect(
            decide(situation(["a.test", "b.test"], facts(["a.test"], from: -1, to: 90 * day)))
                == .order(authority: Self.cas[0])
        )
        var unwanted = situation(["a.test"], facts(["a.test"], from: -1, to: 90 * day))
        unwanted.isRequested = true
        #expect(decide(unwanted) == .order(authority: Self.cas[0]))
    }

    @Test(
        "Back-off applies to the same settings; a request and other settings end it; a CA's hold leads to the next CA"
    )
    func holds() {
        var waiting = situation()
        waiting.state.nextTry = Self.now + 100
        waiting.state.settings = "s"
        #expect(decide(waiting) == .idle(until: Self.now + 100))
        #expect(decide(waiting, settings: "other") == .order(authority: Self.cas[0]))
        waiting.isRequested = true
        #expect(decide(waiting) == .order(authority: Self.cas[0]))
        waiting.state.holds = [Self.cas[0]: Self.now + 50]
        #expect(decide(waiting) == .order(authority: Self.cas[1]))
        waiting.state.holds[Self.cas[1]] = Self.now + 70
        #expect(decide(waiting) == .idle(until: Self.now + 50))
    }

    @Test("The CA that issued it is asked for its window, if it is still one of ours")
    func window() {
        var known = situation(["a.test"], facts(["a.test"], from: -100, to: 90 * 86_400))
        known.issuer = Self.cas[1]
        #expect(decide(known) == .fetchRenewalInfo(authority: Self.cas[1]))
        known.state.renewal = known.renewal
        known.state.renewal?.nextPoll = Self.now + 60
        #expect(decide(known) == .idle(until: Self.now + 60))
        known.state.renewal?.at = Self.now - 1
        #expect(decide(known) == .order(authority: Self.cas[0]))
        // One of a CA for tests is replaced as soon as that is not configured any more; an imported one is not.
        known.state.renewal = nil
        known.issuer = "https://staging.test/dir"
        #expect(decide(known) == .order(authority: Self.cas[0]))
        known.issuer = nil
        guard case .idle = decide(known) else {
            Issue.record("\(decide(known))")
            return
        }
    }

    @Test("A new certificate is not renewed before half of its remaining time, nor by a window within a minute")
    func fresh() throws {
        let now = Self.now
        func plan(left: Int64, before: RenewalPlan? = nil) -> RenewalPlan {
            RenewalPolicy.initialPlan(
                facts(["a.test"], from: -3_600, to: left),
                name: "a.test",
                replacing: before,
                now: now
            )
        }
        #expect(plan(left: 100).at == now + 50)
        #expect(plan(left: 10).at == now + 60 && plan(left: -10).at == now + 60)
        #expect(plan(left: 90 * 86_400).at > now + 50 * 86_400)
        let window = #"{"suggestedWindow":{"start":"\#((now - 500).rfc3339)","end":"\#((now - 400).rfc3339)"}}"#
        func inPast(_ plan: RenewalPlan) throws -> RenewalPlan {
            RenewalPolicy.plan(
                facts(["a.test"], from: -3_600, to: 90 * 86_400),
                name: "a.test",
                stored: plan,
                info: try ACMERenewalInfo(Array(window.utf8)),
                pause: 60,
                now: now,
                random: 7
            )
        }
        let first = plan(left: 90 * 86_400)
        #expect(try inPast(first).at == now + 60)
        // A CA that wants the next one back as well is in error.
        #expect(try inPast(plan(left: 90 * 86_400, before: first)).at == now + 3_600)
    }

    @Test("After a validation that failed the next attempt begins with the next kind of challenge")
    func turns() {
        var settings = RenewalSettings(
            authorities: [
                RenewalSettings.Authority(ACMEAuthority(directory: ACMEURL(Self.cas[0])!))
            ],
            certificates: [],
            challenges: [.http01, .tlsALPN01]
        )
        settings.profile = nil
        var state = RenewalState()
        let name = [CertificateName("a.test")!]
        func first() -> ChallengeKind {
            settings.plan(name, at: settings.authorities[0], replacing: nil, after: state).challenges[0]
        }
        #expect(first() == .http01)
        for (failures, kind) in [(1, ChallengeKind.tlsALPN01), (2, .http01), (3, .tlsALPN01)] {
            state = RetryPolicy.failed(
                ACMEFailure(.connection, .authorization, "port 80 is closed"),
                authority: Self.cas[0],
                state: state,
                settings: "s",
                now: Self.now,
                random: 0
            )
            #expect(state.failures == failures && first() == kind)
        }
        state.lastError?.code = "rateLimited"
        #expect(first() == .http01)
    }
}
