import Agent
import NIOCore
import NIOPosix
import TestSupport
import Testing

struct DeadlineTimerTests {
    @Test("Close deadlines that keep arriving do not postpone the firing")
    func closeDeadlines() async throws {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let firings = Observed(0)
        let timer = try await loop.submit {
            let timer = DeadlineTimer(loop: loop)
            timer.onFire = { _ in
                firings.update { $0 += 1 }
                return .distantFuture
            }
            return NIOLoopBound(timer, eventLoop: loop)
        }.get()
        for _ in 0..<50 {
            try await loop.submit { timer.value.schedule(by: .now() + .milliseconds(5)) }.get()
            try await Task.sleep(for: .milliseconds(10))
        }
        #expect(firings.value >= 2)
    }
}
