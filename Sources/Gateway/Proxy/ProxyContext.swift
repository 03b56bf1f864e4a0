import Observability

/// The parts that every exchange uses. Immutable, shared by all loops.
final class ProxyContext: Sendable {
    let limits: EdgeLimits
    let metrics: GatewayMetrics
    let router: Router
    let registry: AgentRegistry
    let lifecycle: Lifecycle
    /// `nil` if no access log is written.
    let accessLog: AccessLog?

    init(
        limits: EdgeLimits,
        metrics: GatewayMetrics,
        router: Router,
        registry: AgentRegistry,
        lifecycle: Lifecycle,
        accessLog: AccessLog?
    ) {
        self.limits = limits
        self.metrics = metrics
        self.router = router
        self.registry = registry
        self.lifecycle = lifecycle
        self.accessLog = accessLog
    }
}
