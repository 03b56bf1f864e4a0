package import NIOCore
import Synchronization

/// Watches that event loops turn: each beats once a second, how late it did is observed, and a loop that has not
/// beaten for long makes the process unhealthy.
///
/// Started once by the process and stopped before its loops are; a beat costs a loop about a microsecond.
package final class LoopMonitor: Sendable {
    private let beats: [Beat]
    package init(
        loops: [any EventLoop],
        metrics: MetricsRegistry,
        interval: TimeAmount = .seconds(1)
    ) {
        let lag = metrics.histogram(
            "event_loop_lag_seconds",
            help: "How late event loops ran a task that was due.",
            buckets: .shortDurations
        )
        let now = NIODeadline.now()
        self.beats = loops.map { Beat(loop: $0, interval: interval, lag: lag, now: now) }
        for beat in self.beats { beat.start() }
    }

    /// Whether every loop ran within the last `limit`.
    package func allLoopsTurn(within limit: TimeAmount = .seconds(10), now: NIODeadline = .now()) -> Bool {
        self.beats.allSatisfy { now - $0.last <= limit }
    }

    package func stop() {
        for beat in self.beats { beat.stopped.store(true, ordering: .relaxed) }
    }

    /// The beat of one loop. It schedules itself again, so that lateness never adds up.
    private final class Beat: Sendable {
        let loop: any EventLoop
        let interval: TimeAmount
        let lag: Histogram
        let lastNanoseconds: Atomic<UInt64>
        let stopped = Atomic<Bool>(false)

        init(loop: any EventLoop, interval: TimeAmount, lag: Histogram, now: NIODeadline) {
            self.loop = loop
            self.interval = interval
            self.lag = lag
            self.lastNanoseconds = Atomic(now.uptimeNanoseconds)
        }

        var last: NIODeadline {
            .uptimeNanoseconds(self.lastNanoseconds.load(ordering: .relaxed))
        }

        func start() {
            guard !self.stopped.load(ordering: .relaxed) else { return }
            let due = NIODeadline.now() + self.interval
            _ = self.loop.scheduleTask(deadline: due) {
                let now = NIODeadline.now()
                self.lastNanoseconds.store(now.uptimeNanoseconds, ordering: .relaxed)
                self.lag.observe(now - due)
                self.start()
            }
        }
    }
}
