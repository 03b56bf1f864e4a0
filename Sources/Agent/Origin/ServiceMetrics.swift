import Observability

/// The counters of one service on one event loop, to which they are confined.
final class ServiceMetrics {
    private let service: String
    private let registry: MetricsRegistry
    /// The counters that have been registered, by status.
    private var byStatus: [Counter?] = Array(repeating: nil, count: 1_000)

    init(service: String, registry: MetricsRegistry) {
        self.service = service
        self.registry = registry
    }

    /// Counts a final response head.
    func count(status: Int) {
        guard byStatus.indices.contains(status) else { return }
        if let counter = byStatus[status] {
            counter.increment()
            return
        }
        let counter = registry.counter(
            "origin_requests_total",
            help: "Responses of origins by service and status.",
            labels: [("service", service), ("code", String(status))]
        )
        byStatus[status] = counter
        counter.increment()
    }
}
