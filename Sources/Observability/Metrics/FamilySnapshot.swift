import NIOCore

/// A copy of one metric family, made under the registry's lock and written outside of it.
struct FamilySnapshot {
    let name: String
    let kind: MetricKind
    let help: String
    let labelNames: [String]
    let series: [(values: [String], series: Series)]
    let collect: (@Sendable (inout CollectedSamples) -> Void)?

    init(_ family: Family) {
        self.name = family.name
        self.kind = family.kind
        self.help = family.help
        self.labelNames = family.labelNames
        self.series = family.series
        self.collect = family.collect
    }

    /// Appends HELP, TYPE and all samples in the text format 0.0.4. A family without samples is omitted.
    func write(into buffer: inout ByteBuffer) {
        var samples = CollectedSamples()
        collect?(&samples)
        guard !samples.rows.isEmpty || !series.isEmpty else { return }

        buffer.writeString("# HELP \(name) \(Self.escapedHelp(help))\n")
        buffer.writeString("# TYPE \(name) \(kind.rawValue)\n")
        for row in samples.rows {
            precondition(row.values.count == labelNames.count, "\(name) has labels \(labelNames)")
            line(into: &buffer, "", row.values, Self.format(row.sample))
        }
        for (values, series) in series {
            switch series {
            case .counter(let counter): line(into: &buffer, "", values, String(counter.value))
            case .gauge(let gauge): line(into: &buffer, "", values, String(gauge.value))
            case .histogram(let histogram): write(histogram, values, into: &buffer)
            }
        }
    }

    /// Appends the samples of a histogram. The count is the sum of the buckets that were read, so that `+Inf` and
    /// `_count` never differ.
    private func write(_ histogram: Histogram, _ values: [String], into buffer: inout ByteBuffer) {
        var total = 0
        for (index, count) in histogram.counts.enumerated() {
            total += count
            let bounds = histogram.buckets.bounds
            let bound = index < bounds.count ? Double(bounds[index]) / histogram.buckets.scale : .infinity
            line(into: &buffer, "_bucket", values, String(total), le: Self.format(bound))
        }
        line(into: &buffer, "_sum", values, Self.format(histogram.sum))
        line(into: &buffer, "_count", values, String(total))
    }

    private func line(
        into buffer: inout ByteBuffer,
        _ suffix: String,
        _ values: [String],
        _ value: String,
        le: String? = nil
    ) {
        buffer.writeString(name)
        buffer.writeString(suffix)
        var separator = "{"
        for (name, value) in zip(labelNames, values) {
            buffer.writeString("\(separator)\(name)=\"\(Self.escapedLabel(value))\"")
            separator = ","
        }
        if let le {
            buffer.writeString("\(separator)le=\"\(le)\"")
            separator = ","
        }
        buffer.writeString(separator == "{" ? " \(value)\n" : "} \(value)\n")
    }

    /// The value in the form that Go's `ParseFloat` parses; whole numbers have no fraction.
    static func format(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value > 0 ? "+Inf" : "-Inf" }
        if let whole = Int(exactly: value) { return String(whole) }
        return value.description
    }

    static func escapedHelp(_ text: String) -> String {
        escaped(text, quotes: false)
    }

    static func escapedLabel(_ text: String) -> String {
        escaped(text, quotes: true)
    }

    private static func escaped(_ text: String, quotes: Bool) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": escaped += "\\\\"
            case "\n": escaped += "\\n"
            case "\"" where quotes: escaped += "\\\""
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}
