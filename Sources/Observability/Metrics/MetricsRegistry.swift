package import NIOCore
import Synchronization

/// A label of a metric: a fixed name and one of a few values. Never a path, an address or an identifier.
package typealias MetricLabel = (name: String, value: String)

/// The registry of all metrics of a process, and their exposition as text.
///
/// The process owns one registry and passes it to its parts. Registering a metric takes a lock and may allocate; it
/// happens at start, or when a label value (a service, a route) appears for the first time. The part keeps the returned
/// ``Counter``, ``Gauge`` or ``Histogram``, whose updates are lock-free atomic adds from any thread. Registering the
/// same name and labels again returns the same metric.
///
/// Values that exist elsewhere are collected by callbacks when the metrics are scraped. ``write(into:)`` runs on the
/// ops server's loop: it copies the families under the lock (``FamilySnapshot``) and formats them, and calls the
/// callbacks, outside of it.
///
/// A name that breaks the rules is a bug in this program and stops the process at registration.
package final class MetricsRegistry: Sendable {
    /// The maximum number of label sets of one family. Further ones share a series whose labels all have the value
    /// `other`.
    package static let maximumSeries = 1_000

    /// The prefix of every name except those of `process_*`: `hopgate` or `hopagent`.
    package let namespace: String

    private let families: Mutex<Families>

    package init(namespace: String) {
        precondition(MetricName.isValid(namespace), "invalid namespace: \(namespace)")
        self.namespace = namespace
        self.families = Mutex(Families())
    }

    /// Returns a counter. `name` ends in `_total`.
    package func counter(_ name: String, help: String, labels: [MetricLabel] = []) -> Counter {
        let series = series(name, .counter, help, labels) { .counter(Counter()) }
        guard case .counter(let counter) = series else { preconditionFailure("\(name) is not a counter") }
        return counter
    }

    /// Returns a gauge.
    package func gauge(_ name: String, help: String, labels: [MetricLabel] = []) -> Gauge {
        let series = series(name, .gauge, help, labels) { .gauge(Gauge()) }
        guard case .gauge(let gauge) = series else { preconditionFailure("\(name) is not a gauge") }
        return gauge
    }

    /// Returns a histogram with fixed buckets.
    package func histogram(
        _ name: String,
        help: String,
        buckets: HistogramBuckets = .requestDurations,
        labels: [MetricLabel] = []
    ) -> Histogram {
        precondition(!labels.contains { $0.name == "le" }, "`le` belongs to the buckets of \(name)")
        let series = series(name, .histogram, help, labels) { .histogram(Histogram(buckets: buckets)) }
        guard case .histogram(let histogram) = series else { preconditionFailure("\(name) is not a histogram") }
        precondition(histogram.buckets == buckets, "\(name) has other buckets")
        return histogram
    }

    /// Returns a counter for each case of an enum. All of them are exposed from the start, as 0.
    package func counters<Key>(_ name: String, help: String, label: String, by key: Key.Type) -> CounterTable<Key> {
        CounterTable { counter(name, help: help, labels: [(label, $0.rawValue)]) }
    }

    /// Registers a gauge whose value is read when the metrics are scraped. `read` runs on the ops server's loop and
    /// must not block.
    package func collectedGauge(_ name: String, help: String, read: @escaping @Sendable () -> Double) {
        collect(name, .gauge, help: help, labelNames: []) { $0.add(read(), []) }
    }

    /// Registers a counter whose value is kept elsewhere and read when the metrics are scraped. `read` must not block.
    package func collectedCounter(_ name: String, help: String, read: @escaping @Sendable () -> Double) {
        collect(name, .counter, help: help, labelNames: []) { $0.add(read(), []) }
    }

    /// Registers a family whose series are listed when the metrics are scraped. `read` must not block.
    package func collect(
        _ name: String,
        _ kind: CollectedKind,
        help: String,
        labelNames: [String],
        read: @escaping @Sendable (inout CollectedSamples) -> Void
    ) {
        collectUnprefixed("\(namespace)_\(name)", kind, help: help, labelNames: labelNames, read: read)
    }

    /// Registers a collected family under its full name, without the namespace.
    func collectUnprefixed(
        _ fullName: String,
        _ kind: CollectedKind,
        help: String,
        labelNames: [String],
        read: @escaping @Sendable (inout CollectedSamples) -> Void
    ) {
        MetricName.check(fullName, kind == .counter ? .counter : .gauge, help: help, labelNames: labelNames)
        families.withLock {
            let family = $0.family(fullName, kind == .counter ? .counter : .gauge, help, labelNames)
            precondition(family.series.isEmpty && family.collect == nil, "\(fullName) is registered twice")
            family.collect = read
        }
    }

    /// Appends all metrics in the Prometheus text format, version 0.0.4. Callbacks run outside of the registry's lock.
    package func write(into buffer: inout ByteBuffer) {
        let snapshot = families.withLock { $0.order.map(FamilySnapshot.init) }
        for family in snapshot { family.write(into: &buffer) }
    }

    private func series(
        _ name: String,
        _ kind: MetricKind,
        _ help: String,
        _ labels: [MetricLabel],
        make: @Sendable () -> Series
    ) -> Series {
        let fullName = "\(namespace)_\(name)"
        let labelNames = labels.map(\.name)
        MetricName.check(fullName, kind, help: help, labelNames: labelNames)
        return families.withLock {
            let family = $0.family(fullName, kind, help, labelNames)
            precondition(family.collect == nil, "\(fullName) is registered twice")
            return family.child(labels.map(\.value), make: make)
        }
    }
}

/// The type of a collected family.
package enum CollectedKind: Sendable {
    case counter
    case gauge
}

/// The samples that a collecting callback adds.
package struct CollectedSamples {
    var rows: [(values: [String], sample: Double)] = []

    /// Adds one sample. `labelValues` are in the order of the family's label names.
    package mutating func add(_ value: Double, _ labelValues: [String]) {
        rows.append((labelValues, value))
    }
}

/// The type of a metric family. The raw value is the type in the exposition.
enum MetricKind: String {
    case counter
    case gauge
    case histogram
}

/// The metric of one label set of a family.
enum Series: Sendable {
    case counter(Counter)
    case gauge(Gauge)
    case histogram(Histogram)
}

/// The families by name and in the order of their registration. Guarded by the registry's lock.
struct Families: ~Copyable {
    var order: [Family] = []
    var byName: [String: Family] = [:]

    mutating func family(_ name: String, _ kind: MetricKind, _ help: String, _ labelNames: [String]) -> Family {
        if let known = byName[name] {
            precondition(known.kind == kind, "\(name) has another type")
            precondition(known.labelNames == labelNames, "\(name) has other labels")
            return known
        }
        let family = Family(name: name, kind: kind, help: help, labelNames: labelNames)
        order.append(family)
        byName[name] = family
        return family
    }
}

/// All series of one name. Not `Sendable`: it never leaves the registry's lock; see ``FamilySnapshot``.
final class Family {
    let name: String
    let kind: MetricKind
    let help: String
    let labelNames: [String]
    var series: [(values: [String], series: Series)] = []
    var index: [[String]: Int] = [:]
    var collect: (@Sendable (inout CollectedSamples) -> Void)?

    init(name: String, kind: MetricKind, help: String, labelNames: [String]) {
        self.name = name
        self.kind = kind
        self.help = help
        self.labelNames = labelNames
    }

    /// Returns the series of a label set, and creates it if there is none.
    func child(_ values: [String], make: @Sendable () -> Series) -> Series {
        if let known = index[values] { return series[known].series }
        if series.count >= MetricsRegistry.maximumSeries, values.contains(where: { $0 != "other" }) {
            return child(values.map { _ in "other" }, make: make)
        }
        let made = make()
        index[values] = series.count
        series.append((values, made))
        return made
    }
}
