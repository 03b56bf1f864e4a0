import NIOCore
import Synchronization
import Threads

/// One watch of a user. The parts that it has to read are jobs of the store's readers and bulk threads, several at a
/// time.
final class WatchSubscription: Sendable {
    let scope: WatchScope
    private let deliver: WatchDelivery
    private let state: Mutex<State>

    private struct State {
        var watch: PrefixWatch
        var hasReportedCompletion = false
        /// The failure that was reported last.
        var failure: StoreError?
        var batches: UInt64 = 0
        var isCancelled = false

        /// The batch for changes, and for what has changed in the state of the watch since the last one.
        mutating func batch(_ changes: [WatchedChange]) -> WatchBatch? {
            let isCompletion = watch.isComplete && !hasReportedCompletion
            guard isCompletion || watch.obstacle != failure || !changes.isEmpty else { return nil }
            hasReportedCompletion = watch.isComplete
            failure = watch.obstacle
            batches += 1
            return WatchBatch(changes: changes, isComplete: isCompletion, failure: failure, number: batches)
        }
    }

    init(volume: Volume, scope: WatchScope, deliver: @escaping WatchDelivery) {
        self.scope = scope
        self.deliver = deliver
        state = Mutex(State(watch: PrefixWatch(volume: volume, scope: scope)))
    }

    func cancel() { state.withLock { $0.isCancelled = true } }

    var isCancelled: Bool { state.withLock { $0.isCancelled } }

    /// The changes of other members that have been delivered.
    var covered: Mark { state.withLock { $0.watch.covered } }

    var failure: StoreError? { state.withLock { $0.watch.failure } }

    /// Adds a key that this process has changed.
    func enqueue(_ key: StoreKey) { state.withLock { $0.watch.enqueue(key) } }

    func poll(after announced: Mark, volumeAnswers: Bool) {
        state.withLock { $0.watch.poll(after: announced, volumeAnswers: volumeAnswers) }
    }

    /// Takes a part, or returns `nil` if there is none or enough are being read.
    func nextPart() -> WatchPart? { state.withLock { $0.isCancelled ? nil : $0.watch.nextPart() } }

    /// Gives a part back that cannot be read now.
    func cancel(_ part: WatchPart) { state.withLock { $0.watch.cancel(part) } }

    /// Reads a part and delivers what has changed.
    func read(_ part: WatchPart) {
        guard let findings = part.read() else { return state.withLock { $0.watch.resume(part) } }
        let (changes, batch) = state.withLock { state in
            let changes = state.watch.record(findings, of: part)
            return (changes, state.batch(changes))
        }
        guard let batch else { return }
        let rejected = deliver(batch)
        let next = state.withLock { state in
            state.watch.finish(changes, rejecting: rejected)
            return state.batch([])
        }
        if let next { _ = deliver(next) }
    }
}

extension VolumeStore {
    package func watch(_ scope: WatchScope, _ deliver: @escaping WatchDelivery) -> StoreWatch {
        let subscription = WatchSubscription(volume: volume, scope: scope, deliver: deliver)
        let isOpen = shared.withLock { shared in
            if !shared.isClosed { shared.watches.append(subscription) }
            return !shared.isClosed
        }
        if isOpen { pollPeriodically(subscription) }
        return StoreWatch { [weak self] in
            subscription.cancel()
            self?.shared.withLock { $0.watches.removeAll { $0 === subscription } }
        }
    }

    /// Reads a key now, because this process has changed it.
    func refresh(_ key: StoreKey) {
        for subscription in shared.withLock({ $0.watches }) where subscription.scope.contains(key) {
            subscription.enqueue(key)
            submitParts(of: subscription)
        }
    }

    private func pollPeriodically(_ subscription: WatchSubscription) {
        guard !subscription.isCancelled else { return }
        poll(subscription)
        timers.schedule(at: .now() + options.watchInterval) { [weak self] in self?.pollPeriodically(subscription) }
    }

    func poll(_ subscription: WatchSubscription) {
        let (announced, state) = (shared.withLock { $0.announced }, state)
        subscription.poll(after: announced, volumeAnswers: state != .stalled && state != .gone)
        submitParts(of: subscription)
    }

    private func submitParts(of subscription: WatchSubscription) {
        while let part = subscription.nextPart() {
            let isAccepted = (part.isBulk ? bulk : readers).submit { [weak self] in
                subscription.read(part)
                self?.submitParts(of: subscription)
                self?.updateSeen()
            }
            guard isAccepted else { return subscription.cancel(part) }
        }
    }
}
