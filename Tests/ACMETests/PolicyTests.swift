import ACME
import Formats
import NIOCore
import TestSupport
import Testing

@Suite("Retry and renewal")
struct PolicyTests {
    static let now = UnixTime(seconds: 1_800_000_000)
    static let first = "https://a.test/dir"
    static let second = "https://b.test/dir"

    private func failed(
        _ failure: ACMEFailure,
        _ state: RenewalState = RenewalState(),
        at authority: String = first,
        now: UnixTime = now,
        random: UInt64 = 0
    ) -> RenewalState {
        RetryPolicy.failed(failure, authority: authority, state: state, settings: "s", now: now, random: random)
    }

    private func next(_ state: RenewalState, _ authorities: [String] = [first], now: UnixTime, settings: String = "s")
        -> RetryPolicy.Next
    {
        RetryPolicy.next(state, authorities: authorities, settings: settings, now: now)
    }

    @Test("Pauses grow from a minute to twelve hours, ± 20 %")
    func backOff() {
        let whole: [Int64] = [60, 300, 900, 3_600, 10_800, 21_600, 43_200, 43_200, 43_200]
        for (index, pause) in whole.enumerated() {
            var seen: Set<Int64> = []
            for random in 0..<UInt64(2_000) {
                seen.insert(RetryPolicy.pause(failures: index + 1, random: random &* 0x9e37_79b9_7f4a_7c15))
            }
            #expect(seen.min()! >= pause * 8 / 10 && seen.max()! <= pause * 12 / 10)
            #expect(seen.max()! - seen.min()! > pause / 3)
        }
        #expect(RetryPolicy.pause(failures: 1_000_000, random: .max) <= 51_840)
        #expect(RetryPolicy.pause(failures: 0, random: 0) == 48)
    }

    @Test("Failures in a row are counted, and a success forgets them")
    func counted() {
        var state = RenewalState()
        var now = Self.now
        for pause in [48, 240, 720, 2_880] as [Int64] {
            state = failed(ACMEFailure(.connection, .authorization, "x"), state, now: now)
            #expect(next(state, now: now) == .wait(until: now + pause))
            #expect(next(state, now: now + pause) == .attempt(authority: Self.first))
            now = now + pause
        }
        #expect(
            state.failures == 4 && state.lastError?.code == "connection" && state.lastError?.authority == Self.first
        )
        state = RetryPolicy.succeeded(authority: Self.first, state: state)
        #expect(state == RenewalState())
    }

    @Test(
        "A failure that needs the operator is not tried again within a day",
        arguments: [
            ACMEFailure.Code.rejectedIdentifier, .caa, .malformed, .userActionRequired, .externalAccountRequired,
        ]
    )
    func afterADay(_ code: ACMEFailure.Code) {
        for random in [0, 1, 17_279, .max] as [UInt64] {
            let state = failed(ACMEFailure(code, .order, "x"), random: random)
            #expect(next(state, [Self.first, Self.second], now: Self.now + 86_399) != .attempt(authority: Self.first))
            #expect(next(state, now: Self.now + 86_400 * 6 / 5) == .attempt(authority: Self.first))
        }
        // Changed settings are what was waited for.
        let state = failed(ACMEFailure(code, .order, "x"))
        #expect(next(state, now: Self.now, settings: "t") == .attempt(authority: Self.first))
    }

    @Test("A rate limit holds that CA until its time, regardless of the settings, and the next one is tried at once")
    func rateLimit() {
        let until = Self.now + 7_200
        let state = failed(ACMEFailure(.rateLimited, .order, "x", retry: .notBefore(until)))
        #expect(next(state, [Self.first, Self.second], now: Self.now) == .attempt(authority: Self.second))
        #expect(next(state, now: Self.now, settings: "t") == .wait(until: until))
        #expect(next(state, now: until) == .attempt(authority: Self.first))
        // Both have had enough: the one that may be asked first.
        let other = ACMEFailure(.rateLimited, .order, "x", retry: .notBefore(Self.now + 60))
        let both = failed(other, state, at: Self.second)
        #expect(next(both, [Self.first, Self.second], now: Self.now) == .wait(until: Self.now + 60))
        #expect(next(both, [Self.first, Self.second], now: Self.now + 60) == .attempt(authority: Self.second))
        #expect(next(both, [Self.first, Self.second], now: until) == .attempt(authority: Self.first))
        // A hostile time is not believed.
        let forever = failed(ACMEFailure(.rateLimited, .order, "x", retry: .notBefore(.latest)))
        #expect(next(forever, now: Self.now + 9 * 86_400) == .attempt(authority: Self.first))
        let past = failed(ACMEFailure(.rateLimited, .order, "x", retry: .notBefore(.earliest)))
        #expect(next(past, now: Self.now) == .attempt(authority: Self.first))
    }

    @Test("An outage holds that CA for the back-off; a failure of the name holds the name at every CA")
    func outage() {
        let out = failed(ACMEFailure(.unavailable, .directory, "x"))
        #expect(next(out, [Self.first, Self.second], now: Self.now) == .attempt(authority: Self.second))
        #expect(next(out, now: Self.now) == .wait(until: Self.now + 48))
        let name = failed(ACMEFailure(.dns, .authorization, "x"), out, at: Self.second)
        #expect(next(name, [Self.first, Self.second], now: Self.now) == .wait(until: Self.now + 240))
        #expect(next(name, [Self.first, Self.second], now: Self.now + 240) == .attempt(authority: Self.first))
    }

    @Test("A state survives the store, with fields of later releases")
    func stored() throws {
        var state = failed(
            ACMEFailure(.caa, .finalize, "no", type: "urn:x", identifier: "a.test", instance: "https://a.test")
        )
        state.holds = [Self.first: Self.now, Self.second: Self.now + 5]
        state.renewal = RenewalPlan(
            certificate: "ab",
            at: Self.now,
            window: .init(start: Self.now, end: Self.now + 10),
            explanation: "why",
            nextPoll: Self.now + 20
        )
        var fields = try #require([String: JSONValue](json: state.json))
        fields["later"] = .object(["x": .null])
        let read = try RenewalState(json: fields.json, place: "state")
        #expect([String: JSONValue](json: read.json) == fields)
        #expect(read.holds == state.holds && read.renewal == state.renewal && read.lastError == state.lastError)
        #expect(read.lastError?.remedy == ACMEFailure.Code.caa.remedy)
        #expect(try RenewalState(json: Array(#"{"format":1}"#.utf8), place: "state") == RenewalState())
        for bad in [
            "[]", #"{"format":1,"failures":"3"}"#, #"{"format":1,"next_try":7}"#, #"{"format":1,"holds":{"x":"soon"}}"#,
            #"{"format":1,"renewal":{"at":"x"}}"#,
            #"{"format":1,"last_error":{}}"#,
        ] {
            let error = #expect(throws: ACMEMessageError.self) {
                try RenewalState(json: Array(bad.utf8), place: "state/a")
            }
            #expect(error?.place.hasPrefix("state/a") == true)
        }
        #expect(try RenewalState(json: Array(#"{"format":1,"failures":-5}"#.utf8), place: "s").failures == 0)
        #expect(
            try RenewalState(json: Array(#"{"format":1,"failures":9999999999999}"#.utf8), place: "s").failures
                == 1_000_000
        )
    }

    @Test("Every code has a remedy in words")
    func remedies() {
        for code in ACMEFailure.Code.allCases {
            #expect(code.remedy.count > 20)
            #expect("\(ACMEFailure(code, .order, "detail"))".hasPrefix("order: detail; "))
        }
    }

    // MARK: Renewal

    /// A certificate with these seconds of validity, from ``now`` on.
    private func facts(_ lifetime: Int64) throws -> CertificateFacts {
        let world = World()
        world.ca.lifetime = lifetime
        return try world.issue().facts
    }

    @Test("A third of the lifetime is left, half of it below ten days, and names are spread")
    func dates() throws {
        for (lifetime, left) in [(90 * 86_400, 30 * 86_400), (6 * 86_400, 3 * 86_400), (60, 30), (9, 4)]
            as [(Int64, Int64)]
        {
            let facts = try facts(lifetime)
            #expect(facts.notAfter - facts.notBefore == lifetime)
            var seen: Set<Int64> = []
            for index in 0..<100 {
                let time = RenewalPolicy.renewalTime(facts, name: "\(index).test")
                #expect(time == RenewalPolicy.renewalTime(facts, name: "\(index).test"))
                seen.insert(facts.notAfter - time)
            }
            #expect(seen.min()! >= left && seen.max()! <= left + left / 8)
            #expect(seen.count > 50 || lifetime < 100)
        }
    }

    @Test("A window gives one random time, which stays until the window or the certificate changes")
    func window() throws {
        let facts = try facts(90 * 86_400)
        let start = facts.notBefore + 50 * 86_400
        func info(_ start: UnixTime, _ end: UnixTime) throws -> ACMERenewalInfo {
            let text = #"{"suggestedWindow":{"start":"\#(start)","end":"\#(end)"},"explanationURL":"why"}"#
            return try ACMERenewalInfo(Array(text.utf8))
        }
        func plan(_ stored: RenewalPlan?, _ info: ACMERenewalInfo?, _ random: UInt64) -> RenewalPlan {
            RenewalPolicy.plan(
                facts,
                name: "a.test",
                stored: stored,
                info: info,
                pause: 21_600,
                now: Self.now,
                random: random
            )
        }
        let initial = RenewalPolicy.plan(facts, name: "a.test", stored: nil)
        #expect(initial.at == RenewalPolicy.renewalTime(facts, name: "a.test") && initial.nextPoll == nil)
        #expect(RenewalPolicy.plan(facts, name: "a.test", stored: initial) == initial)
        let drawn = plan(initial, try info(start, start + 86_400), 1_000)
        #expect(drawn.at == start + 1_000 && drawn.nextPoll == Self.now + 21_600 && drawn.explanation == "why")
        #expect(plan(drawn, try info(start, start + 86_400), 5_000).at == drawn.at)
        #expect(plan(drawn, try info(start + 1, start + 86_400), 5_000).at == start + 5_001)
        // A revocation: the window is in the past, and so is the time.
        #expect(plan(drawn, try info(Self.now - 86_400, Self.now - 3_600), .max).at < Self.now)
        // Too late to be believed.
        let late = plan(nil, try info(facts.notAfter + 1, .latest), 5)
        #expect(late.at == facts.notAfter - 9 * 86_400)
        // The CA has no window any more: the dates decide again.
        let none = plan(drawn, nil, 0)
        #expect(none.at == initial.at && none.window == nil && none.explanation == nil)
        #expect(RenewalPolicy.planAfterFailure(drawn, now: Self.now).at == drawn.at)
        // Another certificate.
        let renewed = try self.facts(90 * 86_400)
        #expect(RenewalPolicy.plan(renewed, name: "a.test", stored: drawn).window == nil)
        for seed in 0..<1_000 as Range<UInt64> {
            let time = plan(nil, try info(start, start + 60), seed &* 0x9e37_79b9_7f4a_7c15).at
            #expect(time >= start && time < start + 60)
        }
    }

    @Test("Renewal information is requested every six hours, or as the CA asks, between a minute and a day")
    func pollPause() {
        #expect(RenewalPolicy.pollPause(retryAfter: nil) == 21_600)
        #expect(RenewalPolicy.pollPause(retryAfter: 0) == 60)
        #expect(RenewalPolicy.pollPause(retryAfter: 7_200) == 7_200)
        #expect(RenewalPolicy.pollPause(retryAfter: .max) == 86_400)
    }

    @Test("Renewal information of a certificate is asked for by what its CA calls it")
    func renewalInfo() throws {
        let world = World()
        world.ca.offersRenewalInfo = true
        let id = try #require(try world.issue().facts.renewalID)
        func ask(_ limit: Int = 50) throws -> RenewalInfoMachine.Action {
            var machine = RenewalInfoMachine(directoryURL: TestCA.directory, renewalID: id, random: { 3 })
            var action = machine.start(now: world.now)
            for _ in 0..<limit {
                switch action {
                case .send(let request):
                    #expect(request.method == .get)
                    let answer = world.ca.answer(request, now: world.now.wall)
                    action =
                        answer.map { machine.received($0, now: world.now) }
                        ?? machine.requestFailed("cut", now: world.now)
                case .wait(let until):
                    world.milliseconds = Int64(until.uptimeNanoseconds / 1_000_000)
                    action = machine.waited(now: world.now)
                case .completed, .failed: return action
                }
            }
            return action
        }
        guard case .completed(let info?, pause: 21_600) = try ask() else {
            Issue.record("no answer")
            return
        }
        #expect(info.start == world.now.wall + 1_000 && info.explanation == "https://example.test/why")
        #expect(world.ca.violations == [])
        world.ca.faults.lostRequest = 1
        guard case .failed(let failure) = try ask() else {
            Issue.record("no failure")
            return
        }
        #expect(failure.code == .unavailable)
        world.ca.faults.lostRequest = 0
        world.ca.tamper = { request, response in
            if request.url.text.contains("ari") { response = world.ca.problem(404, "malformed", "no such certificate") }
        }
        guard case .failed(let missing) = try ask() else {
            Issue.record("no failure")
            return
        }
        #expect(missing.step == .renewalInfo && missing.code == .malformed)
        world.ca.tamper = nil
        world.ca.offersRenewalInfo = false
        #expect(try ask() == .completed(nil, pause: 86_400))
    }

    @Test("The clock is corrected by the CA's where they differ by more than the way of an answer")
    func clock() {
        var clock = ClockSkew()
        clock.update(date: Self.now + 1, wall: Self.now)
        #expect(clock.offset == 0)
        clock.update(date: Self.now - 500, wall: Self.now)
        #expect(clock.offset == -500 && clock.serverTime(at: Self.now + 10) == Self.now - 490)
        clock.update(date: Self.now - 498, wall: Self.now)
        #expect(clock.offset == -500)
        clock.update(date: Self.now, wall: Self.now)
        #expect(clock.offset == 0)
    }
}
