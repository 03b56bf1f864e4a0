/// Limits the log lines about many values that change at the same time: the first ones of a burst have a line each, the
/// others are counted, and reported when no more of them follow.
struct ReportLimiter {
    /// The highest number of lines of a burst.
    static let limit = 32

    private var reported = 0
    private var counted = 0
    /// The value of ``counted`` at the last call of ``settle()``.
    private var settled = 0

    /// Returns whether a change has a line. Otherwise it is counted.
    mutating func admit() -> Bool {
        guard reported == Self.limit else {
            reported += 1
            return true
        }
        counted += 1
        return false
    }

    /// Ends a burst to which nothing was added since the last call. Called periodically.
    ///
    /// - Returns: The number of changes without a line, or `nil` if there are none or more may follow.
    mutating func settle() -> Int? {
        guard counted == settled else {
            settled = counted
            return nil
        }
        let count = counted
        self = ReportLimiter()
        return count > 0 ? count : nil
    }
}
