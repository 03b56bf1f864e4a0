import Observability

/// A cache of the counters of `http_requests_total`, which finds them without a lock. Each event loop has one.
struct RequestCounters {
    private var known: [UInt32: Counter] = [:]

    mutating func count(_ status: Int, method: String, isHTTP10: Bool, in registry: MetricsRegistry) {
        let (index, name) = Self.method(method)
        let key = UInt32(truncatingIfNeeded: status) << 8 | UInt32(index) << 1 | (isHTTP10 ? 1 : 0)
        if let counter = known[key] {
            counter.increment()
            return
        }
        let counter = registry.counter(
            "http_requests_total",
            help: "Requests by status, method and protocol.",
            labels: [("code", String(status)), ("method", name), ("protocol", isHTTP10 ? "HTTP/1.0" : "HTTP/1.1")]
        )
        known[key] = counter
        counter.increment()
    }

    /// The index and the label of a method. Unusual methods share one label, so that clients cannot create time series.
    private static func method(_ method: String) -> (UInt8, String) {
        switch method {
        case "GET": (0, method)
        case "HEAD": (1, method)
        case "POST": (2, method)
        case "PUT": (3, method)
        case "PATCH": (4, method)
        case "DELETE": (5, method)
        case "OPTIONS": (6, method)
        default: (7, "other")
        }
    }
}
