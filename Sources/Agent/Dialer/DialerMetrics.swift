import Observability

/// The `hopagent_*` metrics of tunnels. The registry adds the prefix.
final class DialerMetrics: Sendable {
    let readyTunnels: Gauge
    let reconnects: Counter
    let goaways: Counter
    let attachFailures: CounterTable<AttachFailure.Kind>

    init(registry: MetricsRegistry) {
        readyTunnels = registry.gauge("ready_tunnels", help: "Tunnels to gateways that accept requests now.")
        reconnects = registry.counter("reconnects_total", help: "Attempts to attach after the first of each gateway.")
        goaways = registry.counter("goaways_total", help: "Times a gateway asked to attach elsewhere.")
        attachFailures = registry.counters(
            "attach_failures_total",
            help: "Attempts to attach that failed, and live tunnels that were lost.",
            label: "reason",
            by: AttachFailure.Kind.self
        )
    }
}
