package import NIOCore
import Synchronization

/// A label of a metric: a fixed name and one of few values. Never a path, an address or an id.
package typealias MetricLabel = (name: String, value: String)

/// All metrics of a process, and their text exposition.
///
/// The process owns one registry and hands it down. Registering takes a lock and may allocate; it happens at start or
/// when a new label value (a service, a route) appears for the first time. The returned ``Counter``, ``Gauge`` and
/// ``Histogram`` are then held by their users, for whom counting is an atomic add.
///
/// A name that breaks the rules is our bug and stops the process at registration.
package final class MetricsRegistry: Sendable {
    /// Label sets one family may have; the next ones share a series whose every label says `other`.
    package static let maximumSeries = 1_000

    /// `hopgate` or `hopagent`: stands before every name but those of `process_*`.
    package let namespace: String

    private let families: Mutex<Families>

    package init(namespace: String) {
        precondition(MetricName.isValid(namespace), "invalid namespace: \(namespace)")
        self.namespace = namespace
        self.families = Mutex(Families())
    }

    /// A number that only grows. `name` ends in `_total`.
    package func counter(_ name: String, help: String, labels: [MetricLabel] = []) -> Counter {
        let series = self.series(name, .counter, help, labels) { .counter(Counter()) }
        guard case .counter(let counter) = series else { preconditionFailure("\(name) is not a counter") }
        return counter
    }

    /// A number that goes up and down.
    package func gauge(_ name: String, help: String, labels: [MetricLabel] = []) -> Gauge {
        let series = self.series(name, .gauge, help, labels) { .gauge(Gauge()) }
        guard case .gauge(let gauge) = series else { preconditionFailure("\(name) is not a gauge") }
        return gauge
    }

    /// A distribution over fixed buckets.
    package func histogram(
        _ name: String,
        help: String,
        buckets: HistogramBuckets = .requestDurations,
        labels: [MetricLabel] = []
    ) -> Histogram {
        precondition(!labels.contains { $0.name == "le" }, "`le` belongs to the buckets of \(name)")
        let series = self.series(name, .histogram, help, labels) { .histogram(Histogram(buckets: buckets)) }
        guard case .histogram(let histogram) = series else { preconditionFailure("\(name) is not a histogram") }
        precondition(histogram.buckets == buckets, "\(name) has other buckets")
        return histogram
    }

    /// A counter for each case of an enum, all of them shown from the start as 0.
    package func counters<Key>(_ name: String, help: String, label: String, by key: Key.Type) -> CounterTable<Key> {
        CounterTable { self.counter(name, help: help, labels: [(label, $0.rawValue)]) }
    }

    /// A value that is read when the metrics are scraped. `read` runs on the ops server's loop and must not block.
    package func collectedGauge(_ name: String, help: String, read: @escaping @Sendable () -> Double) {
        self.collect(name, .gauge, help: help, labelNames: []) { $0.add(read(), []) }
    }

    /// A growing number that somebody else counts, read when the metrics are scraped.
    package func collectedCounter(_ name: String, help: String, read: @escaping @Sendable () -> Double) {
        self.collect(name, .counter, help: help, labelNames: []) { $0.add(read(), []) }
    }

    /// A family whose series are listed when the metrics are scraped.
    package func collect(
        _ name: String,
        _ kind: CollectedKind,
        help: String,
        labelNames: [String],
        read: @escaping @Sendable (inout CollectedSamples) -> Void
    ) {
        self.collectUnprefixed("\(self.namespace)_\(name)", kind, help: help, labelNames: labelNames, read: read)
    }

    func collectUnprefixed(
        _ fullName: String,
        _ kind: CollectedKind,
        help: String,
        labelNames: [String],
        read: @escaping @Sendable (inout CollectedSamples) -> Void
    ) {
        MetricName.check(fullName, kind == .counter ? .counter : .gauge, help: help, labelNames: labelNames)
        self.families.withLock {
            let family = $0.family(fullName, kind == .counter ? .counter : .gauge, help, labelNames)
            precondition(family.series.isEmpty && family.collect == nil, "\(fullName) is registered twice")
            family.collect = read
        }
    }

    /// Appends everything in the Prometheus text format, version 0.0.4. Callbacks run outside the registry's lock.
    package func write(into buffer: inout ByteBuffer) {
        let snapshot = self.families.withLock { $0.order.map(FamilySnapshot.init) }
        for family in snapshot { family.write(into: &buffer) }
    }

    private func series(
        _ name: String,
        _ kind: MetricKind,
        _ help: String,
        _ labels: [MetricLabel],
        make: @Sendable () -> Series
    ) -> Series {
        let fullName = "\(self.namespace)_\(name)"
        let labelNames = labels.map(\.name)
        MetricName.check(fullName, kind, help: help, labelNames: labelNames)
        return self.families.withLock {
            let family = $0.family(fullName, kind, help, labelNames)
            precondition(family.collect == nil, "\(fullName) is registered twice")
            return family.child(labels.map(\.value), make: make)
        }
    }
}

/// What a collected family may be.
package enum CollectedKind: Sendable {
    case counter
    case gauge
}

/// Where a collecting callback puts its samples.
package struct CollectedSamples {
    var rows: [(values: [String], sample: Double)] = []

    /// One sample; `labelValues` stand in the order of the family's label names.
    package mutating func add(_ value: Double, _ labelValues: [String]) {
        self.rows.append((labelValues, value))
    }
}

enum MetricKind: String {
    case counter
    case gauge
    case histogram
}

/// One label set of a family.
enum Series: Sendable {
    case counter(Counter)
    case gauge(Gauge)
    case histogram(Histogram)
}

/// The families by name and in the order of their registration; guarded by the registry's lock.
struct Families: ~Copyable {
    var order: [Family] = []
    var byName: [String: Family] = [:]

    mutating func family(_ name: String, _ kind: MetricKind, _ help: String, _ labelNames: [String]) -> Family {
        if let known = self.byName[name] {
            precondition(known.kind == kind, "\(name) has another type")
            precondition(known.labelNames == labelNames, "\(name) has other labels")
            return known
        }
        let family = Family(name: name, kind: kind, help: help, labelNames: labelNames)
        self.order.append(family)
        self.byName[name] = family
        return family
    }
}

/// All series of one name. Not `Sendable`: it never leaves the registry's lock, see ``FamilySnapshot``.
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

    func child(_ values: [String], make: @Sendable () -> Series) -> Series {
        if let known = self.index[values] { return self.series[known].series }
        if self.series.count >= MetricsRegistry.maximumSeries, values.contains(where: { $0 != "other" }) {
            return self.child(values.map { _ in "other" }, make: make)
        }
        let made = make()
        self.index[values] = self.series.count
        self.series.append((values, made))
        return made
    }
}
