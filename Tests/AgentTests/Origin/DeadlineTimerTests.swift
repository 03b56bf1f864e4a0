import Agent
import NIOCore
import NIOEmbedded
import Testing

struct DeadlineTimerTests {
    @Test("Close deadlines that keep arriving do not postpone the firing")
    func closeDeadlines() {
        let loop = EmbeddedEventLoop()
        let timer = DeadlineTimer(loop: loop)
        var firings = 0
        timer.onFire = { _ in
            firings += 1
            return .distantFuture
        }
        for _ in 0..<50 {
            timer.schedule(by: loop.now + .milliseconds(5))
            loop.advanceTime(by: .milliseconds(10))
        }
        #expect(firings == 10, "one each 50 ms")
    }
}
