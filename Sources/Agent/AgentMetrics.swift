import HopProtocol
import NIOCore
import Observability
import Tunnel

/// `hopagent_*` (names without the prefix, which is the registry's).
final class AgentMetrics: Sendable {
    let registry: MetricsRegistry
    let readyTunnels: Gauge
    let reconnects: Counter
    let goaways: Counter
    let attachFailures: CounterTable<AttachFailure.Kind>
    let requestsInFlight: Gauge
    let requestBytes: Counter
    let responseBytes: Counter
    let duration: Histogram
    let stalePooled: Counter
    let connects: Counter
    let ledgerFull: Counter
    private let errors: [Counter?]

    init(registry: MetricsRegistry) {
        self.registry = registry
        readyTunnels = registry.gauge("ready_tunnels", help: "Tunnels to gateways that take requests now.")
        reconnects = registry.counter("reconnects_total", help: "Attempts to attach after the first of each gateway.")
        goaways = registry.counter("goaways_total", help: "Times a gateway asked to attach elsewhere.")
        attachFailures = registry.counters(
            "attach_failures_total",
            help: "Attempts to attach that failed, and live tunnels that were lost.",
            label: "reason",
            by: AttachFailure.Kind.self
        )
        requestsInFlight = registry.gauge("requests_in_flight", help: "Requests that are being answered.")
        requestBytes = registry.counter("origin_request_bytes_total", help: "Body bytes given to origins.")
        responseBytes = registry.counter("origin_response_bytes_total", help: "Body bytes taken from origins.")
        duration = registry.histogram(
            "origin_request_duration_seconds",
            help: "From the request's head to the end of the exchange.",
            buckets: .requestDurations
        )
        stalePooled = registry.counter(
            "origin_stale_connections_total",
            help: "Pooled connections that the origin had closed when a request took them."
        )
        connects = registry.counter("origin_connects_total", help: "Connections opened to origins.")
        ledgerFull = registry.counter(
            "request_ledger_full_total",
            help: "Requests that were answered BUSY because the request ledger was full."
        )
        let reasons: [HopCode] = [
            .cancelled, .deadline, .refused, .busy, .wrongRun, .unknownService, .stale, .alreadyRan, .originUnreachable,
            .originTimeout, .originProtocol, .originAborted, .protocolViolation, .internalError, .idle,
        ]
        var errors = [Counter?](repeating: nil, count: 64)
        for code in reasons {
            errors[Int(code.wireCode.rawValue)] = registry.counter(
                "origin_errors_total",
                help: "Requests that did not end with a complete answer of the origin.",
                labels: [("reason", code.name.lowercased())]
            )
        }
        self.errors = errors
    }

    func count(_ code: HopCode) { errors[Int(code.wireCode.rawValue)]?.increment() }
}

/// The counters of one service on one loop.
final class ServiceMetrics {
    private let service: String
    private let metrics: AgentMetrics
    private var byStatus: [Counter?] = Array(repeating: nil, count: 1_000)

    init(service: String, _ metrics: AgentMetrics) {
        self.service = service
        self.metrics = metrics
    }

    /// The origin's final head had this status.
    func count(status: Int) {
        guard byStatus.indices.contains(status) else { return }
        if let counter = byStatus[status] {
            counter.increment()
            return
        }
        let counter = metrics.registry.counter(
            "origin_requests_total",
            help: "Answers of origins by service and status.",
            labels: [("service", service), ("code", String(status))]
        )
        byStatus[status] = counter
        counter.increment()
    }
}
