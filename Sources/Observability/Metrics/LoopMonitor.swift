package import NIOCore
import Synchronization

/// A watchdog of event loops. Each loop runs a heartbeat task once a second, whose delay is observed as a metric. A
/// loop without a heartbeat for a long time makes the process unhealthy.
///
/// The process starts it after its loops and stops it before them. A heartbeat costs a loop about a microsecond.
package final class LoopMonitor: Sendable {
    private let heartbeats: [Heartbeat]

    /// Starts the heartbeats of `loops`.
    package init(
        loops: [any EventLoop],
        metrics: MetricsRegistry,
        interval: TimeAmount = .seconds(1)
    ) {
        let lag = metrics.histogram(
            "event_loop_lag_seconds",
            help: "Delay of due tasks on event loops.",
            buckets: .shortDurations
        )
        let now = NIODeadline.now()
        self.heartbeats = loops.map { Heartbeat(loop: $0, interval: interval, lag: lag, now: now) }
        for heartbeat in heartbeats { heartbeat.start() }
    }

    /// Whether every loop had a heartbeat within the last `limit`.
    package func allLoopsAreResponsive(within limit: TimeAmount = .seconds(10), now: NIODeadline = .now()) -> Bool {
        heartbeats.allSatisfy { now - $0.last <= limit }
    }

    /// Stops the heartbeats; each loop runs at most one more.
    package func stop() {
        for heartbeat in heartbeats { heartbeat.stopped.store(true, ordering: .relaxed) }
    }

    /// The heartbeat of one loop. Each run schedules the next one, so that delays do not accumulate.
    private final class Heartbeat: Sendable {
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
            .uptimeNanoseconds(lastNanoseconds.load(ordering: .relaxed))
        }

        func start() {
            guard !stopped.load(ordering: .relaxed) else { return }
            let due = NIODeadline.now() + interval
            _ = loop.scheduleTask(deadline: due) {
                let now = NIODeadline.now()
                self.lastNanoseconds.store(now.uptimeNanoseconds, ordering: .relaxed)
                self.lag.observe(now - due)
                self.start()
            }
        }
    }
}
