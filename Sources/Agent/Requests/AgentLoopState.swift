import HopProtocol
import NIOCore

/// The part of an agent that is confined to one event loop: its exchanges, its origin pools, and one timer for the
/// deadlines of both.
final class AgentLoopState {
    let loop: any EventLoop
    let context: AgentContext
    let timer: DeadlineTimer
    private var pools: [String: OriginPool] = [:]
    private var exchanges: [OriginExchange] = []

    /// Creates the state of `loop`. Must be called on `loop`.
    init(loop: any EventLoop, context: AgentContext) {
        self.loop = loop
        self.context = context
        timer = DeadlineTimer(loop: loop)
        for service in context.configuration.services {
            pools[service.name] = OriginPool(
                service: service,
                timer: timer,
                metrics: ServiceMetrics(service: service.name, registry: context.metrics.registry)
            )
        }
        timer.onFire = { [weak self] now in self?.pollDeadlines(now: now) ?? .distantFuture }
    }

    /// The pool of a service, or `nil` if the agent does not offer it.
    func pool(of service: String) -> OriginPool? { pools[service] }

    /// Adds an exchange, whose deadlines are polled until it is removed.
    func add(_ exchange: OriginExchange) {
        exchange.tableIndex = exchanges.count
        exchanges.append(exchange)
    }

    func remove(_ exchange: OriginExchange) {
        guard let index = exchange.tableIndex else { return }
        exchange.tableIndex = nil
        let last = exchanges.removeLast()
        if last !== exchange {
            exchanges[index] = last
            last.tableIndex = index
        }
    }

    /// Handles all deadlines that have passed, and returns the earliest one that has not.
    private func pollDeadlines(now: NIODeadline) -> NIODeadline {
        var earliest = NIODeadline.distantFuture
        // Backwards: an exchange that ends is replaced in the table by one that has been polled already.
        for index in exchanges.indices.reversed() where index < exchanges.count {
            let exchange = exchanges[index]
            if exchange.deadline <= now { exchange.deadlineReached() }
            if exchange.tableIndex != nil { earliest = min(earliest, exchange.deadline) }
        }
        for pool in pools.values {
            if let next = pool.closeExpired(now: now) { earliest = min(earliest, next) }
        }
        return earliest
    }

    /// Closes the pools: idle connections are closed, and none is kept any more.
    func close() {
        for pool in pools.values { pool.close() }
    }

    /// Aborts all exchanges, when the shutdown grace has expired.
    func abortAll() {
        for exchange in exchanges { exchange.abort(.cancelled) }
    }
}
