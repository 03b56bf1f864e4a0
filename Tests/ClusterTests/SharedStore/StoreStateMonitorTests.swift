import Cluster
import NIOCore
import Store
import Testing

@Suite("Reports of the store's state")
struct StoreStateMonitorTests {
    private func at(_ milliseconds: Int64) -> NIODeadline {
        .uptimeNanoseconds(1_000_000_000) + .milliseconds(milliseconds)
    }

    /// The reports when the state is observed every 250 ms.
    private func reports(_ states: [(until: Int64, state: StoreState)]) -> [StoreStateMonitor.Report] {
        var monitor = StoreStateMonitor(now: at(0))
        var reports: [StoreStateMonitor.Report] = []
        var now: Int64 = 0
        for (until, state) in states {
            while now < until {
                if let report = monitor.observe(state, reason: "why", now: at(now)) { reports.append(report) }
                now += 250
            }
        }
        return reports
    }

    @Test("A degradation is reported once with its reason, and its end with its duration")
    func once() {
        #expect(
            reports([(1_000, .healthy), (61_000, .stalled), (90_000, .healthy)]) == [
                .degraded(.stalled, reason: "why"), .healthy(after: .seconds(60)),
            ]
        )
    }

    @Test("Another kind of degradation is reported too, and the duration counts from the first")
    func another() {
        #expect(
            reports([(20_000, .readOnly), (40_000, .gone), (60_000, .healthy)]) == [
                .degraded(.readOnly, reason: "why"), .degraded(.gone, reason: "why"), .healthy(after: .seconds(40)),
            ]
        )
    }

    @Test("The end of a short degradation is reported once it has settled")
    func short() {
        #expect(
            reports([(5_000, .full), (6_000, .healthy)]) == [
                .degraded(.full, reason: "why"), .healthy(after: .seconds(5)),
            ]
        )
    }

    @Test("A refused hint is reported once, and no more than the first ones are")
    func refusedHints() {
        var monitor = StoreStateMonitor(now: at(0))
        func refusal(_ number: Int) -> StoreError { StoreError(.refused, "agents/.changes/\(number)", "why") }
        #expect(monitor.observe(refusedHint: nil) == nil)
        #expect(monitor.observe(refusedHint: refusal(1)) == refusal(1))
        #expect(monitor.observe(refusedHint: refusal(1)) == nil)
        #expect((1...100).compactMap { monitor.observe(refusedHint: refusal($0)) }.count == 15)
    }

    @Test("A degradation of 250 ms is not reported")
    func hiccup() {
        #expect(reports([(1_000, .healthy), (1_250, .stalled), (60_000, .healthy)]).isEmpty)
    }

    @Test("A volume that fails and recovers every second is reported seldom")
    func flapping() {
        let states = (1...120).map { (Int64($0) * 1_000, $0 % 2 == 0 ? StoreState.healthy : .stalled) }
        let count = reports(states.map { (until: $0.0, state: $0.1) }).count
        #expect((2...24).contains(count))
    }
}
