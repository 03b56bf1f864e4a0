package import NIOCore
import Synchronization

/// The upper bounds of a histogram's buckets, ascending. What is above the last one counts in `+Inf` only.
package struct HistogramBuckets: Equatable, Sendable {
    /// In the unit that is observed: nanoseconds for durations.
    let bounds: [Int]
    /// Observed units in one unit of the exposition: 10⁹ for durations, which are shown in seconds.
    let scale: Double

    /// Durations, shown in seconds.
    package static func durations(_ bounds: [TimeAmount]) -> HistogramBuckets {
        HistogramBuckets(bounds: bounds.map { Int($0.nanoseconds) }, scale: 1e9)
    }

    /// Plain numbers: bytes, items.
    package static func numbers(_ bounds: [Int]) -> HistogramBuckets {
        HistogramBuckets(bounds: bounds, scale: 1)
    }

    private init(bounds: [Int], scale: Double) {
        precondition(!bounds.isEmpty, "a histogram has a bucket")
        precondition(zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 }, "bounds ascend")
        self.bounds = bounds
        self.scale = scale
    }

    /// 1 ms to 60 s, for requests.
    package static let requestDurations = durations([
        .milliseconds(1), .microseconds(2_500), .milliseconds(5), .milliseconds(10), .milliseconds(25),
        .milliseconds(50), .milliseconds(100), .milliseconds(250), .milliseconds(500), .seconds(1),
        .milliseconds(2_500), .seconds(5), .seconds(10), .seconds(30), .seconds(60),
    ])

    /// 100 µs to 2.5 s, for round trips and for the lateness of event loops.
    package static let shortDurations = durations([
        .microseconds(100), .microseconds(250), .microseconds(500), .milliseconds(1), .microseconds(2_500),
        .milliseconds(5), .milliseconds(10), .milliseconds(25), .milliseconds(50), .milliseconds(100),
        .milliseconds(250), .milliseconds(500), .seconds(1), .milliseconds(2_500),
    ])
}

/// A distribution over fixed buckets. An observation is two relaxed atomic adds, from any thread.
///
/// `@unchecked`: the cells are allocated in `init`, touched only as atomics and freed in `deinit`.
package final class Histogram: @unchecked Sendable {
    let buckets: HistogramBuckets
    /// One cell a bucket, then `+Inf`, then the sum of all observed values.
    private let cells: UnsafeMutablePointer<Atomic<Int>>

    init(buckets: HistogramBuckets) {
        self.buckets = buckets
        self.cells = .allocate(capacity: buckets.bounds.count + 2)
        for index in 0..<buckets.bounds.count + 2 { (self.cells + index).initialize(to: Atomic(0)) }
    }

    deinit {
        self.cells.deinitialize(count: self.buckets.bounds.count + 2)
        self.cells.deallocate()
    }

    package func observe(_ duration: TimeAmount) {
        self.observe(Int(duration.nanoseconds))
    }

    package func observe(_ value: Int) {
        let bounds = self.buckets.bounds
        var index = 0
        while index < bounds.count, value > bounds[index] { index += 1 }
        self.cells[index].wrappingAdd(1, ordering: .relaxed)
        self.cells[bounds.count + 1].wrappingAdd(value, ordering: .relaxed)
    }

    /// Observations in each bucket, not cumulated; the last is what lies above all bounds.
    package var counts: [Int] {
        (0...self.buckets.bounds.count).map { self.cells[$0].load(ordering: .relaxed) }
    }

    /// In the exposition's unit: seconds for durations.
    package var sum: Double {
        Double(self.cells[self.buckets.bounds.count + 1].load(ordering: .relaxed)) / self.buckets.scale
    }
}
