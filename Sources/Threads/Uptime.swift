import Glibc

/// Reads CLOCK_MONOTONIC in nanoseconds. Deadlines in this module are times of that clock, as
/// `NIODeadline.uptimeNanoseconds` is.
package func uptimeNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

extension Duration {
    /// The duration in whole nanoseconds: 0 if it is negative, the largest number if it does not fit.
    package var clampedNanoseconds: UInt64 {
        guard self > .zero else { return 0 }
        let (seconds, fraction) = (UInt64(components.seconds), UInt64(components.attoseconds / 1_000_000_000))
        let (nanoseconds, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, secondOverflow) = nanoseconds.addingReportingOverflow(fraction)
        return overflow || secondOverflow ? .max : sum
    }
}
