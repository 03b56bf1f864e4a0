/// The naming rules of Prometheus, which are checked when a metric is registered.
enum MetricName {
    /// Whether a name matches `[a-zA-Z_][a-zA-Z0-9_]*`. Colons are reserved for recording rules.
    static func isValid(_ name: String) -> Bool {
        guard let first = name.utf8.first, isLetter(first) else { return false }
        return name.utf8.allSatisfy { isLetter($0) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }

    /// Whether a label's name is valid: as for a metric, and without two leading underscores, which Prometheus
    /// reserves.
    static func isValidLabel(_ name: String) -> Bool {
        isValid(name) && !name.hasPrefix("__")
    }

    /// Stops the process if a name, a help text or a label breaks the rules.
    static func check(_ name: String, _ kind: MetricKind, help: String, labelNames: [String]) {
        precondition(isValid(name), "invalid metric name: \(name)")
        precondition(name.hasSuffix("_total") == (kind == .counter), "`_total` ends the name of counters only: \(name)")
        if kind != .counter {
            for suffix in ["_count", "_sum", "_bucket"] {
                precondition(!name.hasSuffix(suffix), "`\(suffix)` belongs to histograms: \(name)")
            }
        }
        precondition(!help.isEmpty, "\(name) has no help text")
        precondition(labelNames.allSatisfy(isValidLabel), "invalid label of \(name): \(labelNames)")
        precondition(Set(labelNames).count == labelNames.count, "label doubled in \(name): \(labelNames)")
    }

    private static func isLetter(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"): true
        default: false
        }
    }
}
