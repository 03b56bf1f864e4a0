import HopProtocol
import Logging
import NIOCore
import Observability
import Synchronization

/// What all loops of an agent share. Everything in it is immutable, atomic, or behind a lock that is held for a table
/// look-up.
final class AgentShared: Sendable {
    let configuration: AgentConfiguration
    /// This process.
    let run: RunID
    let metrics: AgentMetrics
    let log: Logger
    let ledger: Mutex<RequestLedger<RunningAttempt>>
    /// Requests in flight, over all tunnels.
    private let inFlight = Atomic<Int>(0)
    /// SIGTERM came: new requests are refused.
    private let draining = Atomic<Bool>(false)
    private let attachments = Atomic<UInt64>(0)

    init(
        configuration: AgentConfiguration,
        run: RunID,
        metrics: AgentMetrics,
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
            help: "Ids of requests that are not idempotent, kept so that none runs twice."
        ) { [weak self] in Double(self?.ledger.withLock { $0.nonIdempotentCount } ?? 0) }
    }

    var requestsInFlight: Int { inFlight.load(ordering: .relaxed) }

    /// False: there are `max_requests` already. Each true is followed by one ``leave()``.
    func enter() -> Bool {
        let count = inFlight.wrappingAdd(1, ordering: .relaxed).newValue
        guard count <= configuration.maxRequests else {
            leave()
            return false
        }
        return true
    }

    func leave() { inFlight.wrappingSubtract(1, ordering: .relaxed) }

    var isDraining: Bool {
        get { draining.load(ordering: .relaxed) }
        set { draining.store(newValue, ordering: .relaxed) }
    }

    func nextAttach() -> UInt64 { attachments.wrappingAdd(1, ordering: .relaxed).newValue }
}

/// An attempt in the ledger: its exchange, which lives on one loop.
struct RunningAttempt: Sendable {
    private let exchange: NIOLoopBound<OriginExchange>
    private let loop: any EventLoop

    /// On the exchange's loop.
    init(_ exchange: OriginExchange, on loop: any EventLoop) {
        self.exchange = NIOLoopBound(exchange, eventLoop: loop)
        self.loop = loop
    }

    /// From any loop: a higher attempt has come.
    func replaced() {
        if loop.inEventLoop {
            exchange.value.abort(.stale)
        } else {
            let bound = exchange
            loop.execute { bound.value.abort(.stale) }
        }
    }
}
