import NIOCore
import Observability
import Store

/// What the store and the other replicas look like, read when the metrics are scraped. From memory only.
extension GatewayMetrics {
    func collect(store shared: SharedStore, replicas watch: ReplicaWatch) {
        registry.collect(
            "store_state",
            .gauge,
            help: "1 for the state that the store is in.",
            labelNames: ["state"]
        ) { samples in
            let current = shared.store.state
            for state in StoreState.allCases { samples.add(state == current ? 1 : 0, [state.rawValue]) }
        }
        registry.collect(
            "store_refused_total",
            .counter,
            help: "Files and names in the store that were not accepted, by reason.",
            labelNames: ["reason"]
        ) { samples in
            let counts = shared.volume?.volume.counts ?? StoreCounts()
            samples.add(Double(counts.refused), ["refused"])
            samples.add(Double(counts.tooLarge), ["too_large"])
            samples.add(Double(counts.badNames), ["bad_name"])
            samples.add(Double(counts.corrupt), ["corrupt"])
        }
        registry.collectedCounter(
            "store_transient_errors_total",
            help: "Calls of the volume that failed and may pass by themselves, such as EIO and ESTALE."
        ) {
            Double(shared.volume?.volume.counts.transient ?? 0)
        }
        registry.collect(
            "cluster_replicas",
            .gauge,
            help: "Replicas by state; those that left or died stay in it for ten minutes.",
            labelNames: ["state"]
        ) { samples in
            let tally = ReplicaCounts(watch.replicas, now: .now())
            for state in ReplicaCounts.State.allCases {
                samples.add(Double(tally.counts[state] ?? 0), [state.rawValue])
            }
        }
    }
}

extension HistogramBuckets {
    /// 100 µs to 10 s, the longest that a call of the store waits.
    static let storeDurations = durations([
        .microseconds(100), .microseconds(250), .microseconds(500), .milliseconds(1), .microseconds(2_500),
        .milliseconds(5), .milliseconds(10), .milliseconds(25), .milliseconds(50), .milliseconds(100),
        .milliseconds(250), .milliseconds(500), .seconds(1), .milliseconds(2_500), .seconds(5), .seconds(10),
    ])
}
