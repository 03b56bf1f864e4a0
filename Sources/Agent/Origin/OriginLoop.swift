import HopProtocol
import NIOCore

/// The half of the agent that lives on one event loop: its exchanges, its pools, and one timer for all of their
/// deadlines.
///
/// Deadlines are looked at together, by a timer that is set for the earliest and never cancelled: a request costs no
/// timer of its own, since it ends long before the next look.
final class OriginLoop {
    let loop: any EventLoop
    let shared: AgentShared
    private var pools: [String: OriginPool] = [:]
    private var exchanges: [OriginExchange] = []
    private var nextLook = NIODeadline.distantFuture
    private(set) var isClosing = false

    /// Looks are at least this far apart, so that many near deadlines cost one look.
    private static let granularity = TimeAmount.milliseconds(50)

    init(loop: any EventLoop, shared: AgentShared) {
        self.loop = loop
        self.shared = shared
        for service in shared.configuration.services {
            pools[service.name] = OriginPool(
                service: service,
                owner: self,
                metrics: ServiceMetrics(service: service.name, shared.metrics)
            )
        }
    }

    func pool(of service: String) -> OriginPool? { pools[service] }

    func add(_ exchange: OriginExchange) {
        exchange.slot = exchanges.count
        exchanges.append(exchange)
    }

    func remove(_ exchange: OriginExchange) {
        guard let slot = exchange.slot else { return }
        exchange.slot = nil
        let last = exchanges.removeLast()
        if last !== exchange {
            exchanges[slot] = last
            last.slot = slot
        }
    }

    /// Something is due at `deadline`.
    func wake(by deadline: NIODeadline) {
        guard deadline < nextLook else { return }
        nextLook = max(deadline, .now() + Self.granularity)
        let look = nextLook
        loop.assumeIsolated().scheduleTask(deadline: look) { self.look(scheduledFor: look) }
    }

    private func look(scheduledFor scheduled: NIODeadline) {
        // A later look, replaced by an earlier one.
        guard scheduled == nextLook else { return }
        nextLook = .distantFuture
        let now = NIODeadline.now()
        var earliest = NIODeadline.distantFuture
        // From the end: one that ends is replaced by one that was looked at.
        for index in exchanges.indices.reversed() where index < exchanges.count {
            let exchange = exchanges[index]
            if exchange.deadline <= now { exchange.deadlinePassed(now: now) }
            if exchange.slot != nil { earliest = min(earliest, exchange.deadline) }
        }
        for pool in pools.values {
            if let next = pool.closeOld(now: now) { earliest = min(earliest, next) }
        }
        if earliest != .distantFuture { wake(by: earliest) }
    }

    /// No more connections are kept; idle ones are closed.
    func close() {
        isClosing = true
        for pool in pools.values { pool.closeAll() }
    }

    /// The grace is over.
    func abortAll() {
        for exchange in exchanges { exchange.abort(.cancelled) }
    }
}
