import Agent
import Logging
import NIOCore
import Testing

@Suite("Log lines of failures that repeat")
struct FailureLogLimiterTests {
    /// Repeats a failure once a second, and returns the lines as seconds and levels.
    private func lines(_ failure: AttachFailure, seconds: Int64) -> [(Int64, Logger.Level)] {
        var limiter = FailureLogLimiter()
        return (0..<seconds).compactMap { second in
            let now = NIODeadline.uptimeNanoseconds(1_000_000_000) + .seconds(second)
            return limiter.level(of: failure, now: now).map { (second, $0) }
        }
    }

    @Test("A failure is logged at once and then at intervals that double up to an hour")
    func doubling() {
        let lines = lines(AttachFailure(.unreachable, "no answer"), seconds: 5 * 3_600)
        #expect(lines.map(\.0) == [0, 60, 120, 240, 480, 960, 1_920, 3_840, 7_440, 11_040, 14_640])
        #expect(lines.allSatisfy { $0.1 == .error })
    }

    @Test("A refused token is a warning at first, and an error if it stays refused for five seconds")
    func refusal() {
        let lines = lines(AttachFailure(.authFailed, "the token is not accepted"), seconds: 300)
        #expect(lines.map(\.0) == [0, 5, 65, 185])
        #expect(lines.map(\.1) == [.warning, .error, .error, .error])
    }

    @Test("A gateway that accepts no agents is logged as information, and as a warning if that persists")
    func restart() {
        let lines = lines(AttachFailure(.elsewhere, "this replica accepts no agents now"), seconds: 180)
        #expect(lines.map(\.0) == [0, 60, 120])
        #expect(lines.map(\.1) == [.info, .warning, .warning])
    }

    @Test("Failures that alternate are limited one by one")
    func alternating() {
        var limiter = FailureLogLimiter()
        let now = NIODeadline.uptimeNanoseconds(1_000_000_000)
        let failures = ["192.0.2.1", "192.0.2.2"].map { AttachFailure(.unreachable, "cannot dial \($0)") }
        let first = (0..<60).compactMap { limiter.level(of: failures[$0 % 2], now: now + .seconds(Int64($0))) }
        #expect(first.count == 2)
    }
}
