package import NIOCore

/// Decides which refusals of agents are logged: for each token and reason one a minute, with the number of refusals.
///
/// An agent repeats its attempt for as long as it is refused. The table is bounded: tokens for which there is no place
/// share one entry for each class of reasons, so that a flood of unknown tokens neither fills the log nor hides another
/// class.
package struct RefusalLog: Sendable {
    package static let interval = TimeAmount.minutes(1)
    /// The maximum number of tokens and reasons that have an entry of their own.
    static let capacity = 1_024

    private struct Key: Hashable {
        let tokenID: String
        let reason: String
    }

    private struct Entry {
        /// The time from which the next line may be logged.
        var next: NIODeadline
        /// The refusals since the last line.
        var count = 0
    }

    private let capacity: Int
    private var entries: [Key: Entry] = [:]
    private var shared: [String: Entry] = [:]

    package init(capacity: Int = RefusalLog.capacity) {
        self.capacity = capacity
    }

    /// Records a refusal.
    ///
    /// - Parameters:
    ///   - kind: The class of the reason, of which there are few.
    ///   - isLimited: Whether the client has exceeded its limit of failures. Such a refusal is counted only.
    /// - Returns: The number of refusals since the last line, this one included, or `nil` if none is to be logged.
    package mutating func record(
        tokenID: String,
        reason: String,
        kind: String,
        isLimited: Bool,
        now: NIODeadline
    ) -> Int? {
        let key = Key(tokenID: tokenID, reason: reason)
        if entries[key] == nil, !isLimited, entries.count >= capacity {
            entries = entries.filter { $0.value.next > now }
        }
        if entries[key] != nil || !isLimited && entries.count < capacity {
            return Self.count(&entries[key], isLimited, now)
        }
        return Self.count(&shared[kind], isLimited, now)
    }

    private static func count(_ entry: inout Entry?, _ isLimited: Bool, _ now: NIODeadline) -> Int? {
        let count = (entry?.count ?? 0) + 1
        let next = entry?.next ?? now
        guard !isLimited, now >= next else {
            entry = Entry(next: next, count: count)
            return nil
        }
        entry = Entry(next: now + interval)
        return count
    }
}
