import ACME
import Formats
import NIOCore
import Testing

@Suite("Certificates on demand")
struct OnDemandTests {
    private static let now = UnixTime(seconds: 1_900_000_000)
    private static let day: Int64 = 86_400

    private func limits(_ perMinute: Int, _ perWeek: Int) -> IssuanceBudget.Limits {
        IssuanceBudget.Limits(perMinute: perMinute, perWeek: perWeek)
    }

    @Test("A host is granted once a week at no further cost, and a token may use half of each limit")
    func budget() {
        var budget = IssuanceBudget()
        let limits = limits(4, 6)
        func request(_ host: String, _ token: String = "t", at seconds: Int64) -> IssuanceBudget.Decision {
            budget.request(.dns(host), for: token, limits: limits, now: Self.now + seconds)
        }
        #expect(request("a.test", at: 0) == .granted)
        #expect(request("a.test", at: 1) == .granted)
        #expect(request("b.test", at: 10) == .granted)
        #expect(request("c.test", at: 20) == .refused(until: Self.now + 60, isWeekly: false))
        // Another token has its own half, and together they have the whole.
        #expect(request("d.test", "u", at: 30) == .granted)
        #expect(request("e.test", "u", at: 30) == .granted)
        #expect(request("f.test", "v", at: 59) == .refused(until: Self.now + 60, isWeekly: false))
        #expect(request("c.test", at: 60) == .granted)
        let week = 7 * Self.day
        #expect(request("g.test", at: 2 * Self.day) == .refused(until: Self.now + week, isWeekly: true))
        #expect(request("f.test", "v", at: 2 * Self.day) == .granted)
        #expect(request("h.test", "v", at: 2 * Self.day) == .refused(until: Self.now + week, isWeekly: true))
        #expect(request("g.test", at: week) == .granted)
        #expect(request("a.test", at: week + 1) == .refused(until: Self.now + week + 10, isWeekly: true))
    }

    @Test("A limit of one is one, and a limit of none grants nothing")
    func small() {
        var budget = IssuanceBudget()
        #expect(budget.request(.dns("a.test"), for: "t", limits: limits(1, 1), now: Self.now) == .granted)
        let refused = budget.request(.dns("b.test"), for: "u", limits: limits(1, 1), now: Self.now)
        #expect(refused == .refused(until: Self.now + 7 * Self.day, isWeekly: true))
        var none = IssuanceBudget()
        #expect(none.request(.dns("a.test"), for: "t", limits: limits(0, 0), now: Self.now) != .granted)
    }

    @Test("A replica whose clock is ahead does not block the minute of the others")
    func clocks() {
        var budget = IssuanceBudget()
        #expect(budget.request(.dns("a.test"), for: "t", limits: limits(1, 9), now: Self.now + 3_600) == .granted)
        #expect(budget.request(.dns("b.test"), for: "u", limits: limits(1, 9), now: Self.now) == .granted)
    }

    @Test("The largest record can be read again, and a record of another form is an error")
    func record() throws {
        var budget = IssuanceBudget()
        let label = String(repeating: "x", count: 60)
        let limits = limits(1_000, IssuanceBudget.mostPerWeek)
        for number in 0..<IssuanceBudget.mostPerWeek {
            let token = "\(number % 2)" + String(repeating: "t", count: 62)
            let host = CertificateName.dns("\(label).\(label).\(number).te")
            #expect(budget.request(host, for: token, limits: limits, now: Self.now) == .granted)
        }
        #expect(budget.json.count <= ACMELimits.document)
        #expect(try IssuanceBudget(json: budget.json, place: "budget") == budget)
        #expect(try IssuanceBudget(json: Array(#"{"format":1}"#.utf8), place: "budget") == IssuanceBudget())
        #expect(throws: ACMEMessageError.self) {
            try IssuanceBudget(json: Array(#"{"format":1,"grants":{"a.test":"now"}}"#.utf8), place: "budget")
        }
    }

    @Test("Hosts that wait are bounded, and one token has at most half of the places")
    func waiting() {
        var waiting = WaitingHosts()
        let start = NIODeadline.uptimeNanoseconds(1)
        #expect(waiting.nextDue == nil)
        for number in 0..<10_000 { _ = waiting.insert(.dns("\(number).test"), token: "t", now: start) }
        #expect(waiting.count == WaitingHosts.limit / 2)
        #expect(waiting.insert(.dns("9999.test"), token: "t", now: start) == false)
        for number in 0..<10_000 { _ = waiting.insert(.dns("\(number).u.test"), token: "\(number)", now: start) }
        #expect(waiting.count == WaitingHosts.limit)
        waiting.postpone(.dns("9999.u.test"), until: start + .seconds(5))
        #expect(waiting.due(now: start).count == WaitingHosts.limit - 1)
        #expect(waiting.due(now: start + .seconds(5)).count == WaitingHosts.limit && waiting.nextDue == start)
        waiting.remove(.dns("9999.u.test"))
        waiting.remove(.dns("9999.u.test"))
        #expect(waiting.count == WaitingHosts.limit - 1)
    }
}
