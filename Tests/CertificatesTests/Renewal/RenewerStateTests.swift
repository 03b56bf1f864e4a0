import Certificates
import Store
import Synchronization
import TestSupport
import Testing

@Suite("The state of a renewer")
struct RenewerStateTests {
    @Test("An error is reported once, and pauses double up to a limit until a pass succeeds")
    func failures() {
        var state = RenewerState()
        #expect(state.start() == true)
        let first = StoreError(.full, "acme/names/a", "no space is left")
        #expect(state.failed(with: first, isReportable: true) == .reportAndWait(.seconds(5)))
        #expect(state.failed(with: first, isReportable: true) == .wait(.seconds(10)))
        let other = StoreError(.denied, "acme/names/a", "permission denied")
        #expect(state.failed(with: other, isReportable: true) == .reportAndWait(.seconds(20)))
        // An error that is not reportable does not replace the last reported one.
        #expect(state.failed(with: first, isReportable: false) == .wait(.seconds(40)))
        #expect(state.failed(with: other, isReportable: true) == .wait(.seconds(80)))
        for _ in 0..<20 { _ = state.failed(with: first, isReportable: false) }
        #expect(state.failed(with: first, isReportable: false) == .wait(.seconds(5 << 9)))
        state.succeeded()
        #expect(state.failed(with: first, isReportable: true) == .reportAndWait(.seconds(5)))
    }

    @Test("A renewer starts once")
    func start() {
        var state = RenewerState()
        #expect(state.start() == true)
        #expect(state.start() == false)
        _ = state.stop()
        #expect(state.start() == false)
    }

    @Test("Requests wait for another certificate, before the start as well, and are rejected after the end")
    func requests() {
        var state = RenewerState()
        let completed = Mutex(0)
        #expect(state.add { _ in completed.withLock { $0 += 1 } } == .wake)
        #expect(state.start() == true)
        #expect(state.hasRequest(beyond: "a") == true)
        #expect(state.hasRequest(beyond: "a") == true)
        #expect(state.hasRequest(beyond: "b") == false)
        #expect(state.removeRequests().count == 1)
        #expect(state.hasRequest(beyond: "b") == false)
        for _ in 0..<64 { #expect(state.add { _ in } == .wake) }
        #expect(state.add { _ in } == .reject(.full))
        #expect(state.stop().count == 64)
        #expect(state.add { _ in } == .reject(.stopped))
        #expect(completed.withLock { $0 } == 0)
    }
}
