package import NIOCore
import Synchronization
import Threads

/// The decoded values of a watch, each the last usable one: users keep working with them while the store or a single
/// value fails. Values are named by the last component of their key. May be used from any thread.
///
/// The owner calls ``watch(_:_:)`` once. Values are decoded on threads of the store, during the first pass on several
/// at the same time. Versions only rise until a removed key is collected: an older version than one that was usable
/// before is reported as a problem. What the owner has written or read itself it adds with ``insert(_:version:_:)``.
package final class WatchedValues<Value: Sendable, Failure: Error & Equatable>: Sendable {
    /// Decodes what was read of a key, or converts the reason why it cannot be read.
    package typealias Decode =
        @Sendable (StoreKey, Result<StoredValue, StoreError>) -> Result<Value, Failure>

    /// The state of a name.
    package struct Entry: Sendable {
        /// The newest version that was usable or a removal.
        package fileprivate(set) var version: UInt64 = 0
        /// The newest version that the watch has delivered, which may be older than one that was inserted.
        fileprivate var delivered: UInt64 = 0
        /// The last usable value, or `nil` if it was removed or none was ever usable.
        package fileprivate(set) var value: Value?
        /// The reason why the newest version cannot be used.
        package fileprivate(set) var problem: Failure?
    }

    /// A change of an entry. A value that was not replaced is the same before and after.
    package struct Change: Sendable {
        package let name: String
        package let before: Entry
        package let after: Entry

        package var isOfValue: Bool {
            before.version != after.version || (before.value == nil) != (after.value == nil)
        }

        /// The problem that has appeared, if any.
        package var newProblem: Failure? { after.problem == before.problem ? nil : after.problem }
    }

    fileprivate struct State {
        var entries: [String: Entry] = [:]
        var isComplete = false
        var failure: StoreError?
        /// The number of the batch with this failure.
        var newestBatch: UInt64 = 0
        /// The number of deliveries, by which a wait observes progress.
        var deliveries = 0
        var watch: StoreWatch?
        var onChange: (@Sendable ([Change]) -> Void)?
    }

    private let decode: Decode
    private let state = Mutex(State())
    private let progress = AsyncSignal()

    package init(decode: @escaping Decode) {
        self.decode = decode
    }

    /// Begins to watch, until this object is released or the store is closed.
    ///
    /// - Parameter onChange: Called after entries have changed, on any thread, during the first pass on several at the
    ///   same time.
    package func watch(_ store: any Store, _ scope: WatchScope, onChange: @escaping @Sendable ([Change]) -> Void) {
        state.withLock { $0.onChange = onChange }
        let watch = store.watch(scope) { [weak self] in self?.receive($0) ?? [] }
        state.withLock { $0.watch = watch }
    }

    // MARK: Values

    package subscript(name: String) -> Value? { state.withLock { $0.entries[name]?.value } }

    /// All that is known, by name.
    package var entries: [String: Entry] { state.withLock { $0.entries } }

    /// Whether every value that existed when the watch began has been delivered or cannot be read.
    package var isComplete: Bool { state.withLock { $0.isComplete } }

    /// Waits until the first pass is complete. At most one task waits at a time.
    ///
    /// - Parameter patience: The longest time without any progress.
    /// - Returns: Whether the pass is complete. Otherwise the store has stopped to answer for some values.
    /// - Throws: The failure of the watch, or `stalled` if nothing was delivered at all.
    @discardableResult
    package func waitUntilComplete(patience: TimeAmount) async throws(StoreError) -> Bool {
        var (deliveries, end) = (0, NIODeadline.now() + patience)
        while true {
            let state = state.withLock { (isComplete: $0.isComplete, deliveries: $0.deliveries, failure: $0.failure) }
            if state.isComplete { return true }
            if let failure = state.failure, !failure.isTransient { throw failure }
            if state.deliveries != deliveries { (deliveries, end) = (state.deliveries, .now() + patience) }
            let left = end - .now()
            guard left > .zero, !Task.isCancelled else {
                if state.failure == nil, state.deliveries > 0 { return false }
                throw state.failure ?? StoreError(.stalled, "the store", "does not answer; is its server up?")
            }
            await progress.wait(atMost: .nanoseconds(left.nanoseconds))
        }
    }

    /// Adds a value that the owner has just read. One that cannot be used is left to the watch.
    package func insert(_ stored: StoredValue, at key: StoreKey) {
        guard state.withLock({ $0.entries[key.name].map { !$0.isKnown(stored.version) } ?? true }),
            case .success(let value) = decode(key, .success(stored))
        else { return }
        set(key.name, version: stored.version, value)
    }

    /// Adds a value that the owner has just written. An older version than the known one has no effect.
    package func insert(_ name: String, version: UInt64, _ value: Value) {
        set(name, version: version, value)
    }

    /// Adds a value that is older than the newest version, which cannot be used.
    package func insert(_ name: String, version: UInt64, _ value: Value, insteadOf problem: Failure) {
        set(name, version: version, value, problem)
    }

    /// Removes a value whose removal the owner has just written. A name that is not known stays unknown, since the
    /// watch may have delivered its end already.
    ///
    /// - Parameter version: The version of the removal.
    package func remove(_ name: String, version: UInt64) {
        set(name, version: version, nil)
    }

    private func set(_ name: String, version: UInt64, _ value: Value?, _ problem: Failure? = nil) {
        let (change, onChange) = state.withLock { state in
            guard value != nil || state.entries[name] != nil else { return (nil as Change?, state.onChange) }
            let change = state.change(name) { entry in
                guard version > entry.version || version == entry.version && entry.value == nil else { return }
                entry.version = version
                entry.value = value
                entry.problem = problem
            }
            return (change, state.onChange)
        }
        if let change { onChange?([change]) }
    }

    // MARK: Deliveries

    /// Applies what a watch has found, as a ``WatchDelivery``.
    package func receive(_ batch: WatchBatch) -> [StoreKey] {
        let decoded = batch.changes.map { change -> Result<Value, Failure>? in
            switch change.content {
            case .value(let stored): decode(change.key, .success(stored))
            case .unreadable(let error): decode(change.key, .failure(error))
            case .removed, .collected: nil
            }
        }
        let names = batch.changes.map(\.key.name)
        var changes: [Change] = []
        changes.reserveCapacity(names.count)
        var rejected: [StoreKey] = []
        // One lock for the batch, because many threads read the first pass.
        let onChange = state.withLock { state in
            for (index, delivered) in batch.changes.enumerated() {
                let change = state.change(names[index]) { entry in
                    if !apply(delivered.content, decoded[index], delivered.key, &entry) {
                        rejected.append(delivered.key)
                    }
                }
                if let change { changes.append(change) }
                if case .collected = delivered.content { state.entries[names[index]] = nil }
            }
            state.isComplete = state.isComplete || batch.isComplete
            if batch.number >= state.newestBatch { (state.failure, state.newestBatch) = (batch.failure, batch.number) }
            state.deliveries += 1
            return state.onChange
        }
        if !changes.isEmpty { onChange?(changes) }
        if batch.isComplete || batch.failure != nil { progress.send() }
        return rejected
    }

    /// Applies what was delivered. Returns `false` if it cannot be used.
    private func apply(
        _ content: WatchedChange.Content,
        _ decoded: Result<Value, Failure>?,
        _ key: StoreKey,
        _ entry: inout Entry
    ) -> Bool {
        let version: UInt64
        switch content {
        case .removed, .collected:
            version = if case .removed(let removed?) = content { removed } else { entry.version }
            entry.delivered = max(entry.delivered, version)
            // A removal that is older than what the owner has written itself.
            guard version >= entry.version else { return true }
            (entry.version, entry.value, entry.problem) = (version, nil, nil)
            return true
        case .unreadable: version = .max
        case .value(let stored): version = stored.version
        }
        guard version >= entry.delivered else {
            let error = StoreError(
                .rolledBack,
                key.path,
                "version \(version) is the newest, but version \(entry.delivered) existed before; newer files were "
                    + "removed by hand, and the last known state stays in use"
            )
            if case .failure(let problem) = decode(key, .failure(error)) { entry.record(problem) }
            return false
        }
        // The same version has the same content, so a value keeps its identity.
        let isKnown = entry.isKnown(version)
        if !isKnown, case .failure(let problem)? = decoded {
            entry.record(problem)
            return false
        }
        entry.delivered = version
        if !isKnown, case .success(let value)? = decoded { (entry.version, entry.value) = (version, value) }
        entry.problem = nil
        return true
    }
}

extension WatchedValues.Entry {
    /// Keeps a problem that is already known, which may hold when it appeared.
    fileprivate mutating func record(_ problem: Failure) {
        if self.problem != problem { self.problem = problem }
    }

    /// Whether the content of a version changes nothing.
    fileprivate func isKnown(_ version: UInt64) -> Bool {
        version < self.version || version == self.version && value != nil
    }
}

extension WatchedValues.State {
    /// Changes an entry. Returns the change, or `nil` if there is none.
    fileprivate mutating func change(
        _ name: String,
        _ body: (inout WatchedValues<Value, Failure>.Entry) -> Void
    ) -> WatchedValues<Value, Failure>.Change? {
        let before = entries[name] ?? WatchedValues<Value, Failure>.Entry()
        var after = before
        body(&after)
        entries[name] = after
        let change = WatchedValues<Value, Failure>.Change(name: name, before: before, after: after)
        return change.isOfValue || before.problem != after.problem ? change : nil
    }
}
