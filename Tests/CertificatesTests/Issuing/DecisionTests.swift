import Certificates
import Dates
import Testing

@Suite("What is to be done about a certificate")
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

    private func decide(_ situation: CertificateSituation, settings: String = "s") -> IssuingDecision {
        situation.decision(authorities: Self.cas, settings: settings, now: Self.now)
    }

    private func situation(_ names: [String] = ["a.test"], _ facts: CertificateFacts? = nil) -> CertificateSituation {
        CertificateSituation(names: names.map { CertificateName($0)! }, facts: facts)
    }

    @Test("What is missing is ordered from the first CA")
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

    @Test("An old one, one that lacks a name, and one that somebody does not want any more are ordered anew")
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
        unwanted.isForced = true
        #expect(decide(unwanted) == .order(authority: Self.cas[0]))
    }

    @Test("Back-off holds for the same settings; a wish and other settings end it; a CA's hold leads to the next CA")
    func holds() {
        var waiting = situation()
        waiting.state.nextTry = Self.now + 100
        waiting.state.settings = "s"
        #expect(decide(waiting) == .idle(until: Self.now + 100))
        #expect(decide(waiting, settings: "other") == .order(authority: Self.cas[0]))
        waiting.isForced = true
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
        #expect(decide(known) == .askForWindow(authority: Self.cas[1]))
        known.state.renewal = known.renewal
        known.state.renewal?.nextPoll = Self.now + 60
        #expect(decide(known) == .idle(until: Self.now + 60))
        known.state.renewal?.at = Self.now - 1
        #expect(decide(known) == .order(authority: Self.cas[0]))
        known.state.renewal = nil
        known.issuer = "https://gone.test/dir"
        guard case .idle = decide(known) else {
            Issue.record("\(decide(known))")
            return
        }
    }

    @Test("What was issued now is not renewed before half of what is left of it, and not within a minute in any case")
    func fresh() {
        let now = Self.now
        func at(_ planned: Int64, left: Int64, hasWindow: Bool = false) -> Int64 {
            var plan = RenewalPlan(certificate: "id", at: now + planned)
            if hasWindow { plan.window = RenewalPlan.Window(start: now + planned, end: now + planned + 1) }
            return RenewalPolicy.fresh(plan, facts(["a.test"], from: -3_600, to: left), now: now).at - now
        }
        #expect(at(70, left: 100) == 70)
        #expect(at(-1_700, left: 100) == 50)
        #expect(at(-1_700, left: 10) == 60 && at(-1_700, left: -10) == 60)
        #expect(at(-500, left: 90 * 86_400, hasWindow: true) == 60)
        #expect(at(500, left: 90 * 86_400, hasWindow: true) == 500)
    }
}
