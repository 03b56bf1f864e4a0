import NIOCore
import Observability
import Store

/// The metrics of the gateway. One instance per gateway, registered when it is created; an update is an atomic addition
/// on any event loop. The raw values of the enums are label values.
final class GatewayMetrics: Sendable {
    enum Rejection: String, CaseIterable, Sendable {
        /// The limit of open connections is reached.
        case limit
    }

    enum Disconnect: String, CaseIterable, Sendable {
        case agent
        case gateway
        case idle
        case superseded
        case revoked
        case violation
        case dtls
        case replaced
        case other
    }

    enum AuthFailure: String, CaseIterable, Sendable {
        case credential
        case service
        case host
        /// The token's limit of attached agents is reached.
        case limit
        case timeout
        case malformed
        case draining
    }

    /// Requests between replicas.
    enum Forward: String, CaseIterable, Sendable {
        /// Sent to an attachment of another replica.
        case sent
        /// Received for an attachment of this replica.
        case served
        /// Received for an attachment that is not here or accepts no requests.
        case refused
    }

    enum Transport: String, CaseIterable, Sendable {
        case dtls
    }

    let registry: MetricsRegistry

    let duration: Histogram
    let timeToFirstByte: Histogram
    let inFlight: Gauge
    let requestBytes: Counter
    let responseBytes: Counter
    let retries: Counter
    let forwards: CounterTable<Forward>
    private let errors: CounterTable<ProxyError>

    let httpConnectionsOpen: Gauge
    let httpsConnectionsOpen: Gauge
    let connectionsRejected: CounterTable<Rejection>
    let tlsFailures: Counter

    let sessions: CounterTable<Transport>
    let disconnects: CounterTable<Disconnect>
    let authFailures: CounterTable<AuthFailure>
    let roundTrip: Histogram
    let lostPackets: Counter
    let retransmittedBytes: Counter
    let streamBytesIn: Counter
    let streamBytesOut: Counter
    let drainState: Gauge
    private let storeOperations: [StoreOperation: Histogram]

    init(registry: MetricsRegistry) {
        self.registry = registry
        duration = registry.histogram(
            "http_request_duration_seconds",
            help: "Time from the head of a request to the end of its response."
        )
        timeToFirstByte = registry.histogram(
            "http_time_to_first_byte_seconds",
            help: "Time from the head of a request to the head of its response."
        )
        inFlight = registry.gauge("http_requests_in_flight", help: "Requests that have no complete response yet.")
        requestBytes = registry.counter("http_request_bytes_total", help: "Body bytes received from clients.")
        responseBytes = registry.counter("http_response_bytes_total", help: "Body bytes sent to clients.")
        retries = registry.counter("http_request_retries_total", help: "Further attempts at a request.")
        forwards = registry.counters(
            "forwarded_requests_total",
            help: "Attempts at requests between replicas.",
            label: "result",
            by: Forward.self
        )
        errors = registry.counters(
            "http_request_errors_total",
            help: "Requests that the gateway answered itself or aborted.",
            label: "reason",
            by: ProxyError.self
        )
        httpConnectionsOpen = Self.openConnections("http", registry)
        httpsConnectionsOpen = Self.openConnections("https", registry)
        connectionsRejected = registry.counters(
            "connections_rejected_total",
            help: "Public connections closed at once.",
            label: "reason",
            by: Rejection.self
        )
        tlsFailures = registry.counter("tls_handshake_failures_total", help: "TLS handshakes of clients that failed.")
        sessions = registry.counters(
            "agent_sessions_total",
            help: "Agents that were admitted.",
            label: "transport",
            by: Transport.self
        )
        disconnects = registry.counters(
            "agent_disconnects_total",
            help: "Agent sessions that ended after admission.",
            label: "reason",
            by: Disconnect.self
        )
        authFailures = registry.counters(
            "agent_auth_failures_total",
            help: "Agent sessions that were not admitted.",
            label: "reason",
            by: AuthFailure.self
        )
        roundTrip = registry.histogram(
            "tunnel_rtt_seconds",
            help: "Round trips to agents, sampled every few seconds.",
            buckets: .shortDurations
        )
        lostPackets = registry.counter("tunnel_lost_packets_total", help: "Packets to agents that were declared lost.")
        retransmittedBytes = registry.counter(
            "tunnel_retransmitted_bytes_total",
            help: "Stream bytes that were sent to agents again."
        )
        streamBytesIn = registry.counter(
            "stream_bytes_total",
            help: "Bytes on tunnel streams.",
            labels: [("direction", "in")]
        )
        streamBytesOut = registry.counter(
            "stream_bytes_total",
            help: "Bytes on tunnel streams.",
            labels: [("direction", "out")]
        )
        drainState = registry.gauge("drain_state", help: "1 while the gateway drains.")
        var operations: [StoreOperation: Histogram] = [:]
        for operation in StoreOperation.allCases {
            operations[operation] = registry.histogram(
                "store_operation_seconds",
                help: "Time that the volume took for operations of the store.",
                buckets: .storeDurations,
                labels: [("operation", operation.rawValue)]
            )
        }
        storeOperations = operations
    }

    private static func openConnections(_ listener: String, _ registry: MetricsRegistry) -> Gauge {
        registry.gauge("connections_open", help: "Public connections.", labels: [("listener", listener)])
    }

    func store(_ operation: StoreOperation, took duration: TimeAmount) {
        storeOperations[operation]?.observe(duration)
    }

    func error(_ error: ProxyError) { errors[error].increment() }
}

extension HistogramBuckets {
    /// Buckets from 100 µs to 10 s, the timeout of a call of the store.
    static let storeDurations = durations([
        .microseconds(100), .microseconds(250), .microseconds(500), .milliseconds(1), .microseconds(2_500),
        .milliseconds(5), .milliseconds(10), .milliseconds(25), .milliseconds(50), .milliseconds(100),
        .milliseconds(250), .milliseconds(500), .seconds(1), .milliseconds(2_500), .seconds(5), .seconds(10),
    ])
}
