import Agent
import NIOCore
import Testing

struct BackoffTests {
    @Test("The first wait after a lost tunnel is below 250 ms, regardless of earlier waits")
    func lost() {
        var backoff = Backoff()
        for _ in 0..<10 { _ = backoff.next(after: .failed, retryAfter: nil, fraction: 0.5) }
        #expect(backoff.next(after: .lost, retryAfter: nil, fraction: 0) == .zero)
        #expect(backoff.next(after: .lost, retryAfter: nil, fraction: 0.999) < .milliseconds(250))
    }

    @Test("Failures double the ceiling from 250 ms to 30 s, with full jitter below it")
    func failed() {
        var backoff = Backoff()
        var ceilings: [Int64] = []
        for _ in 0..<10 {
            let wait = backoff.next(after: .failed, retryAfter: nil, fraction: 0.5)
            ceilings.append(wait.nanoseconds * 2 / 1_000_000)
        }
        #expect(ceilings == [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000])
        #expect(backoff.next(after: .failed, retryAfter: nil, fraction: 0) == .zero)
    }

    @Test("A refused port is retried at least once a second, for as long as it refuses")
    func refused() {
        var backoff = Backoff()
        for _ in 0..<1_000 {
            #expect(backoff.next(after: .refused, retryAfter: nil, fraction: 0.999) < .seconds(1))
        }
        var other = Backoff()
        for _ in 0..<20 { _ = other.next(after: .failed, retryAfter: nil, fraction: 0.5) }
        #expect(other.next(after: .refused, retryAfter: nil, fraction: 0.999) < .seconds(1))
    }

    @Test("ELSEWHERE counts as a refused port, so a rolling restart does not raise the ceiling")
    func elsewhere() {
        let failure = AttachFailure(.elsewhere, "this replica accepts no agents now")
        var backoff = Backoff()
        for _ in 0..<20 {
            let wait = backoff.next(after: failure.backoff(wasLive: false), retryAfter: nil, fraction: 0.999)
            #expect(wait < .seconds(1))
        }
        // Another failure continues from the ceiling of a refused port.
        #expect(backoff.next(after: .failed, retryAfter: nil, fraction: 0.999) < .seconds(1))
        #expect(AttachFailure(.authFailed, "").backoff(wasLive: false) == .failed)
        #expect(failure.backoff(wasLive: true) == .lost)
    }

    @Test("The time that the gateway asks for is the minimum, and is bounded to an hour")
    func retryAfter() {
        var backoff = Backoff()
        #expect(backoff.next(after: .failed, retryAfter: .seconds(10), fraction: 0) == .seconds(10))
        #expect(backoff.next(after: .lost, retryAfter: .seconds(10), fraction: 0.5) == .milliseconds(10_125))
        #expect(backoff.next(after: .lost, retryAfter: .nanoseconds(.max), fraction: 0) == .hours(1))
    }
}
