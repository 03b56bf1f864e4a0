import Cluster
import NIOCore
import Observability
import Store

/// The state of the store and of the other replicas.
extension CollectedMetrics {
    func collectStore(_ shared: SharedStore) {
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
            let counts = shared.store.diagnostics.counts
            samples.add(Double(counts.refused), ["refused"])
            samples.add(Double(counts.tooLarge), ["too_large"])
            samples.add(Double(counts.badNames), ["bad_name"])
            samples.add(Double(counts.corrupt), ["corrupt"])
        }
        registry.collectedCounter(
            "store_transient_errors_total",
            help: "Calls of the volume that failed with a transient error, such as EIO and ESTALE."
        ) {
            Double(shared.store.diagnostics.counts.transient)
        }
    }

    func collectReplicas(_ watch: ReplicaWatch) {
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
