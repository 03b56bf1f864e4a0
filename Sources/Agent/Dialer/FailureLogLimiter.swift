import NIOCore

/// Limits the log lines of a failure that repeats to one per minute.
struct FailureLogLimiter {
    static let interval = TimeAmount.minutes(1)

    private var last: (kind: AttachFailure.Kind, message: String, at: NIODeadline)?

    /// Whether `failure` is to be logged: it differs from the last one that was, or the interval has passed.
    mutating func shouldLog(_ failure: AttachFailure, now: NIODeadline) -> Bool {
        if let last, last.kind == failure.kind, last.message == failure.message, now - last.at < Self.interval {
            return false
        }
        last = (failure.kind, failure.message, now)
        return true
    }
}
