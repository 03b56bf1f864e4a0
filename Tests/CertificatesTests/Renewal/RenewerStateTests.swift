import Certificates
import NIOCore
import Store
import Synchronization
import Testing

@Suite("The state of a renewer")
struct RenewerStateTests {
    @Test("Pauses double up to a limit until a pass succeeds")
    func failures() {
        var state = RenewerState()
        #expect(state.start() == true)
        #expect((0..<4).map { _ in state.failed() } == [5, 10, 20, 40].map { .seconds($0) })
        for _ in 0..<20 { _ = state.failed() }
        #expect(state.failed() == .seconds(5 << 9))
        state.succeeded()
        #expect(state.failed() == .seconds(5))
    }

    @Test("Of the errors of 2,500 names one a minute is reported, with the number of the others")
    func errorReports() {
        let store = VolumeStore.inMemory()
        defer { store.close() }
        let events = Mutex<[Int]>([])
        let reports = ErrorReports(store: store) { event in
            if case .error(_, _, let others) = event { events.withLock { $0.append(others) } }
        }
        let start = NIODeadline.now()
        for minute in 0..<3 {
            for _ in 0..<2_500 {
                for code in [StoreError.Code.transient, .stalled, .busy, .full, .fenced] {
                    let error = StoreError(code, "acme/names/a", "error")
                    reports.record(error, for: [], now: start + .minutes(Int64(minute)))
                }
            }
        }
        #expect(events.withLock { $0 } == [0, 9_999, 9_999])
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
