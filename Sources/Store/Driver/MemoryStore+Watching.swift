import Synchronization
import Threads

/// One watch of a ``MemoryStore``.
final class MemoryWatch: Sendable {
    let scope: WatchScope
    private let delivery: WatchDelivery
    /// The keys whose values could not be used.
    private let rejected = Mutex<Set<StoreKey>>([])
    /// Delivers the rejected keys again, once there are any. `nil` if the watch has ended.
    let thread = Mutex<PollingThread?>(nil)

    init(scope: WatchScope, delivery: @escaping WatchDelivery) {
        self.scope = scope
        self.delivery = delivery
    }

    func deliver(_ batch: WatchBatch) {
        let rejected = delivery(batch)
        self.rejected.withLock { all in
            for change in batch.changes { all.remove(change.key) }
            all.formUnion(rejected)
        }
        // A later delivery starts it if the system has no thread left now.
        if !rejected.isEmpty { _ = thread.withLock { $0?.start() } }
    }

    func retry(_ read: (Set<StoreKey>) -> [WatchedChange]) {
        let keys = rejected.withLock { $0 }
        if !keys.isEmpty { deliver(WatchBatch(changes: read(keys))) }
    }
}

extension MemoryStore {
    package func watch(_ scope: WatchScope, _ deliver: @escaping WatchDelivery) -> StoreWatch {
        let watch = MemoryWatch(scope: scope, delivery: deliver)
        let existing = contents.withLock { contents -> [WatchedChange] in
            if !contents.isClosed { contents.watches.append(watch) }
            return contents.values.keys.filter { scope.contains($0) }.compactMap { contents.newest($0) }
        }
        let thread = PollingThread(name: "memory-watch", interval: .milliseconds(250)) { [weak self, weak watch] in
            guard let self else { return }
            watch?.retry { keys in self.contents.withLock { contents in keys.compactMap { contents.newest($0) } } }
        }
        watch.thread.withLock { $0 = contents.withLock { $0.isClosed } ? nil : thread }
        watch.deliver(WatchBatch(changes: existing))
        watch.deliver(WatchBatch(isComplete: true))
        return StoreWatch { [weak self] in
            self?.contents.withLock { $0.watches.removeAll { $0 === watch } }
            watch.thread.withLock { $0 = nil }
        }
    }
}

extension MemoryStore.Contents {
    /// Returns the newest state of a key, or `nil` if it never had a value.
    func newest(_ key: StoreKey) -> WatchedChange? {
        values[key].map { version, bytes in
            let content = bytes.map { WatchedChange.Content.value(StoredValue(bytes: $0, version: version)) }
            return WatchedChange(key: key, content: content ?? .removed(version: version))
        }
    }
}
