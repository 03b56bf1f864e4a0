import HopProtocol
import NIOCore
import Observability
import Tunnel

/// The `hopagent_*` metrics of requests. The registry adds the prefix.
final class RequestMetrics: Sendable {
    let registry: MetricsRegistry
    let requestsInFlight: Gauge
    let requestBytes: Counter
    let responseBytes: Counter
    let duration: Histogram
    let stalePooled: Counter
    let connects: Counter
    let ledgerFull: Counter
    /// The error counters by their code on the wire.
    private let errors: [Counter?]

    init(registry: MetricsRegistry) {
        self.registry = registry
        requestsInFlight = registry.gauge("requests_in_flight", help: "Requests that are being answered.")
        requestBytes = registry.counter("origin_request_bytes_total", help: "Body bytes sent to origins.")
        responseBytes = registry.counter("origin_response_bytes_total", help: "Body bytes received from origins.")
        duration = registry.histogram(
            "origin_request_duration_seconds",
            help: "The time from the request head to the end of the exchange.",
            buckets: .requestDurations
        )
        stalePooled = registry.counter(
            "origin_stale_connections_total",
            help: "Pooled connections that the origin had closed before a request used them."
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
                help: "Requests that ended without a complete response of the origin.",
                labels: [("reason", code.name.lowercased())]
            )
        }
        self.errors = errors
    }

    /// Counts a request that ended with `code`.
    func count(_ code: HopCode) { errors[Int(code.wireCode.rawValue)]?.increment() }
}
