import Gateway
import NIOCore
import Store
import Testing

@Suite("What is logged of the store's state")
struct StoreFollowerTests {
    private func at(_ milliseconds: Int64) -> NIODeadline {
        .uptimeNanoseconds(1_000_000_000) + .milliseconds(milliseconds)
    }

    /// What is told when a store is looked at every 250 ms.
    private func reports(_ states: [(until: Int64, state: StoreState)]) -> [StoreStateMonitor.Report] {
        var follower = StoreStateMonitor(now: at(0))
        var told: [StoreStateMonitor.Report] = []
        var now: Int64 = 0
        for (until, state) in states {
            while now < until {
                if let report = follower.observe(state, reason: "why", now: at(now)) { told.append(report) }
                now += 250
            }
        }
        return told
    }

    @Test("Trouble is told once, with its reason, and its end with how long it lasted")
    func once() {
        #expect(
            reports([(1_000, .healthy), (61_000, .stalled), (90_000, .healthy)]) == [
                .trouble(.stalled, reason: "why"), .healthy(after: .seconds(60)),
            ]
        )
    }

    @Test("Another trouble is told too, and the time counts from the first")
    func another() {
        #expect(
            reports([(20_000, .readOnly), (40_000, .gone), (60_000, .healthy)]) == [
                .trouble(.readOnly, reason: "why"), .trouble(.gone, reason: "why"), .healthy(after: .seconds(40)),
            ]
        )
    }

    @Test("The end of a short trouble is told as soon as it has settled")
    func short() {
        #expect(
            reports([(5_000, .full), (6_000, .healthy)]) == [
                .trouble(.full, reason: "why"), .healthy(after: .seconds(5)),
            ]
        )
    }

    @Test("A hiccup is not told")
    func hiccup() {
        #expect(reports([(1_000, .healthy), (1_250, .stalled), (60_000, .healthy)]).isEmpty)
    }

    @Test("A volume that comes and goes every second is told of seldom")
    func flapping() {
        let states = (1...120).map { (Int64($0) * 1_000, $0 % 2 == 0 ? StoreState.healthy : .stalled) }
        let told = reports(states.map { (until: $0.0, state: $0.1) })
        #expect((2...24).contains(told.count))
    }
}
