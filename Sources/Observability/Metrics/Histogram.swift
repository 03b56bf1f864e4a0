package import NIOCore
import Synchronization

/// The upper bounds of a histogram's buckets, ascending. Values above the last one count in `+Inf` only.
package struct HistogramBuckets: Equatable, Sendable {
    /// The bounds in the observed unit: nanoseconds for durations.
    let bounds: [Int]
    /// The number of observed units in one unit of the exposition: 10⁹ for durations, which are exposed in seconds.
    let scale: Double

    /// Creates buckets of durations, which are exposed in seconds.
    package static func durations(_ bounds: [TimeAmount]) -> HistogramBuckets {
        HistogramBuckets(bounds: bounds.map { Int($0.nanoseconds) }, scale: 1e9)
    }

    /// Creates buckets of plain numbers: bytes, items.
    package static func numbers(_ bounds: [Int]) -> HistogramBuckets {
        HistogramBuckets(bounds: bounds, scale: 1)
    }

    private init(bounds: [Int], scale: Double) {
        precondition(!bounds.isEmpty, "a histogram has a bucket")
        precondition(zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 }, "bounds ascend")
        self.bounds = bounds
        self.scale = scale
    }

    /// The buckets for requests: 1 ms to 60 s.
    package static let requestDurations = durations([
        .milliseconds(1), .microseconds(2_500), .milliseconds(5), .milliseconds(10), .milliseconds(25),
        .milliseconds(50), .milliseconds(100), .milliseconds(250), .milliseconds(500), .seconds(1),
        .milliseconds(2_500), .seconds(5), .seconds(10), .seconds(30), .seconds(60),
    ])

    /// The buckets for round trips and for the delay of event loops: 100 µs to 2.5 s.
    package static let shortDurations = durations([
        .microseconds(100), .microseconds(250), .microseconds(500), .milliseconds(1), .microseconds(2_500),
        .milliseconds(5), .milliseconds(10), .milliseconds(25), .milliseconds(50), .milliseconds(100),
        .milliseconds(250), .milliseconds(500), .seconds(1), .milliseconds(2_500),
    ])
}

/// A histogram with fixed buckets. An observation is two relaxed atomic adds, from any thread.
///
/// Durations of a thousand connections at a time exceed an `Int` of nanoseconds within four months, so the sum has two
/// cells.
///
/// `@unchecked Sendable`: the cells are allocated in `init`, accessed only as atomics, and freed in `deinit`.
package final class Histogram: @unchecked Sendable {
    let buckets: HistogramBuckets
    /// One cell per bucket, then one for `+Inf`, then the sum of all observed values modulo 2⁶⁴, then the number of
    /// times that it has passed 2⁶⁴.
    private let cells: UnsafeMutablePointer<Atomic<Int>>

    init(buckets: HistogramBuckets) {
        self.buckets = buckets
        self.cells = .allocate(capacity: buckets.bounds.count + 3)
        for index in 0..<buckets.bounds.count + 3 { (cells + index).initialize(to: Atomic(0)) }
    }

    deinit {
        cells.deinitialize(count: buckets.bounds.count + 3)
        cells.deallocate()
    }

    package func observe(_ duration: TimeAmount) {
        observe(Int(duration.nanoseconds))
    }

    package func observe(_ value: Int) {
        let bounds = buckets.bounds
        var index = 0
        while index < bounds.count, value > bounds[index] { index += 1 }
        cells[index].wrappingAdd(1, ordering: .relaxed)
        let sum = cells[bounds.count + 1].wrappingAdd(value, ordering: .relaxed)
        if UInt(bitPattern: sum.newValue) < UInt(bitPattern: sum.oldValue) {
            cells[bounds.count + 2].wrappingAdd(1, ordering: .relaxed)
        }
    }

    /// The number of observations in each bucket, not cumulative. The last is for values above all bounds.
    package var counts: [Int] {
        (0...buckets.bounds.count).map { cells[$0].load(ordering: .relaxed) }
    }

    /// The sum of all observed values in the exposition's unit: seconds for durations.
    package var sum: Double {
        let passed = cells[buckets.bounds.count + 2].load(ordering: .relaxed)
        let rest = cells[buckets.bounds.count + 1].load(ordering: .relaxed)
        return (Double(passed) * 0x1p64 + Double(UInt(bitPattern: rest))) / buckets.scale
    }
}
