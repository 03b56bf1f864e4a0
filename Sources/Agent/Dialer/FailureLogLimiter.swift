package import Logging
package import NIOCore

/// Decides whether and how a failure that repeats is logged: the first time, and then at intervals that double from a
/// minute to an hour.
///
/// The refusal of a token is a warning at first, and an error if it persists: the token may have been created so
/// recently that the gateway does not know it yet. A gateway that accepts no agents is an ordinary restart, and a
/// warning if it persists.
package struct FailureLogLimiter {
    package static let interval = TimeAmount.minutes(1)
    package static let longestInterval = TimeAmount.hours(1)
    /// The time after which the refusal of a token is an error.
    package static let refusalGrace = TimeAmount.seconds(5)
    /// The maximum number of failures that are remembered.
    static let limit = 32

    private struct Key: Hashable {
        let kind: AttachFailure.Kind
        let message: String
    }

    private struct Entry {
        /// The time of the next line.
        var next: NIODeadline
        /// The interval after the next line.
        var interval = FailureLogLimiter.interval
    }

    private var entries: [Key: Entry] = [:]

    package init() {}

    /// The level at which to log a failure, or `nil` if it is not to be logged.
    package mutating func level(of failure: AttachFailure, now: NIODeadline) -> Logger.Level? {
        let key = Key(kind: failure.kind, message: failure.message)
        guard var entry = entries[key] else {
            if entries.count >= Self.limit { entries.removeAll() }
            let isRefusal = failure.kind == .authFailed
            entries[key] = Entry(next: now + (isRefusal ? Self.refusalGrace : Self.interval))
            if failure.kind == .elsewhere { return .info }
            return isRefusal ? .warning : .error
        }
        guard now >= entry.next else { return nil }
        entry.next = now + entry.interval
        entry.interval = min(entry.interval * 2, Self.longestInterval)
        entries[key] = entry
        return failure.kind == .elsewhere ? .warning : .error
    }
}
