/// The keys that a watch observes.
package enum WatchScope: Hashable, Sendable {
    /// The keys one level below a prefix.
    case below(StoreKey)
    /// One key, which is read again with every poll: its content may change without its version, because another store
    /// was mounted.
    case only(StoreKey)

    /// The path of the prefix or key.
    var path: String {
        switch self {
        case .below(let key), .only(let key): key.path
        }
    }

    package func contains(_ key: StoreKey) -> Bool {
        switch self {
        case .below(let prefix): key.parent == prefix
        case .only(let only): key == only
        }
    }
}

/// The newest state of a key.
package struct WatchedChange: Equatable, Sendable {
    package enum Content: Equatable, Sendable {
        case value(StoredValue)
        /// The value was removed. `version` is that of the removal, or `nil` if the key has disappeared without one.
        case removed(version: UInt64?)
        /// A removed key's folder was deleted. If the key is created again, its versions begin with 1.
        case collected
        /// The value cannot be used: its file is open to other users, too large, or not a file, or hangs while the
        /// volume answers otherwise. The value that was delivered before stays valid.
        case unreadable(StoreError)
    }

    package let key: StoreKey
    package let content: Content

    package init(key: StoreKey, content: Content) {
        self.key = key
        self.content = content
    }
}

/// A part of what a watch has found.
package struct WatchBatch: Sendable {
    /// The keys that have changed, each at most once.
    package var changes: [WatchedChange] = []
    /// Whether every key that existed when the watch began has been delivered by now, except for those that hang or
    /// could not be read twice.
    package var isComplete = false
    /// The failure of the whole watch, while it lasts: the prefix or its hints cannot be listed, another volume stands
    /// at the path, or too many calls hang.
    package var failure: StoreError?
    /// The number of the batch. Batches may arrive in another order; the failure of the newest counts.
    package var number: UInt64

    package init(
        changes: [WatchedChange] = [],
        isComplete: Bool = false,
        failure: StoreError? = nil,
        number: UInt64 = 0
    ) {
        self.changes = changes
        self.isComplete = isComplete
        self.failure = failure
        self.number = number
    }
}

/// Receives the batches of a watch, on threads of the store, during the first pass on several at the same time. The
/// changes of one key never overlap and arrive in their order.
///
/// Returns the keys whose values cannot be used, because they are damaged or sealed with an unknown key: they are read
/// and delivered again by later polls.
package typealias WatchDelivery = @Sendable (WatchBatch) -> [StoreKey]

/// A watch that lasts until it is cancelled or released.
package final class StoreWatch: Sendable {
    private let end: @Sendable () -> Void

    init(_ end: @escaping @Sendable () -> Void) {
        self.end = end
    }

    deinit { end() }

    /// Ends the watch. Deliveries that are under way may still arrive.
    package func cancel() { end() }
}
