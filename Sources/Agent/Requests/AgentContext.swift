import HopProtocol
import Logging
import NIOCore
import Observability
import Synchronization

/// The state that all event loops of an agent share. All of it is immutable, atomic, or behind a lock that is held for
/// one table operation.
final class AgentContext: Sendable {
    let configuration: AgentConfiguration
    /// The id of this process's run: requests for an earlier run are refused.
    let run: RunID
    let metrics: RequestMetrics
    let log: Logger
    let ledger: Mutex<RequestLedger<RunningAttempt>>
    private let inFlight = Atomic<Int>(0)
    private let draining = Atomic<Bool>(false)

    init(
        configuration: AgentConfiguration,
        run: RunID,
        metrics: RequestMetrics,
        log: Logger,
        ledgerCapacity: Int = RequestLedgerLimits.capacity
    ) {
        self.configuration = configuration
        self.run = run
        self.metrics = metrics
        self.log = log
        ledger = Mutex(RequestLedger(run: run, capacity: ledgerCapacity))
        metrics.registry.collectedGauge(
            "request_ledger_entries",
            help: "Ids of non-idempotent requests that are kept so that none runs twice."
        ) { [weak self] in Double(self?.ledger.withLock { $0.nonIdempotentCount } ?? 0) }
    }

    /// The number of requests in flight, over all tunnels.
    var requestsInFlight: Int { inFlight.load(ordering: .relaxed) }

    /// Counts a request as in flight.
    ///
    /// - Returns: `false` if `max_requests` are in flight already. Each `true` must be followed by one call of
    ///   ``releaseSlot()``.
    func acquireSlot() -> Bool {
        let count = inFlight.wrappingAdd(1, ordering: .relaxed).newValue
        guard count <= configuration.maxRequests else {
            releaseSlot()
            return false
        }
        return true
    }

    /// Ends what ``acquireSlot()`` began.
    func releaseSlot() { inFlight.wrappingSubtract(1, ordering: .relaxed) }

    /// Whether the agent is shutting down: new requests are refused.
    var isDraining: Bool {
        get { draining.load(ordering: .relaxed) }
        set { draining.store(newValue, ordering: .relaxed) }
    }
}
