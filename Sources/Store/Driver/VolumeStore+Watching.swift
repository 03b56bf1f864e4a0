import NIOCore
import Synchronization
import Threads

/// One watch of a user. Its polls are jobs of the store's readers, one at a time; the parts that they leave are further
/// jobs, several at a time.
final class WatchSubscription: Sendable {
    /// The highest number of parts that are read at the same time. A fast volume needs no more than there are usual
    /// readers; on a slow one the readers grow.
    private static let partLimit = 12

    let scope: WatchScope
    private let watch: Mutex<PrefixWatch>
    private let deliver: WatchDelivery
    private let state = Mutex(State())

    private struct State {
        var isPolling = false
        /// Whether a key was enqueued during the poll, so that another poll has to follow.
        var needsAnotherPoll = false
        /// The keys that the next poll has to inspect.
        var enqueued: Set<StoreKey> = []
        /// The number of parts that are queued or being read.
        var parts = 0
        var hasReportedCompletion = false
        var failure: StoreError?
        /// The changes of other members that had been announced when the last poll began.
        var announced = Mark()
        /// The changes of other members that have been delivered.
        var covered = Mark()
        var isCancelled = false
    }

    init(volume: Volume, scope: WatchScope, isDisposable: Bool, deliver: @escaping WatchDelivery) {
        self.scope = scope
        watch = Mutex(PrefixWatch(volume: volume, scope: scope, isDisposable: isDisposable))
        self.deliver = deliver
    }

    func cancel() { state.withLock { $0.isCancelled = true } }

    var isCancelled: Bool { state.withLock { $0.isCancelled } }

    /// Adds a key that this process has changed to the next poll.
    func enqueue(_ key: StoreKey) {
        state.withLock { state in
            state.enqueued.insert(key)
            state.needsAnotherPoll = state.isPolling
        }
    }

    /// Makes another poll follow the one in progress, because a member has announced a change.
    func requestPoll() { state.withLock { $0.needsAnotherPoll = $0.isPolling } }

    /// The changes of other members that have been delivered.
    var covered: Mark { state.withLock { $0.covered } }

    /// Marks a poll as started. Returns `false` if one is in progress.
    func begin() -> Bool {
        state.withLock { state in
            guard !state.isPolling, !state.isCancelled else { return false }
            state.isPolling = true
            state.needsAnotherPoll = false
            return true
        }
    }

    /// Polls once and ends the poll that ``begin()`` started. Returns whether another should follow at once.
    ///
    /// - Parameter announced: The changes that other members have announced.
    func poll(after announced: Mark) -> Bool {
        let enqueued = state.withLock { state in
            defer { state.enqueued = [] }
            return state.enqueued
        }
        let failure = watch.withLock { watch -> StoreError? in
            for key in enqueued { watch.enqueue(key) }
            do throws(StoreError) { try watch.poll() } catch { return error }
            return nil
        }
        if let failure {
            report(failure: failure)
        } else {
            state.withLock { $0.announced = announced }
            finish([])
        }
        return end()
    }

    /// Marks the poll as ended. Returns whether another should follow at once.
    func end() -> Bool {
        state.withLock { state in
            state.isPolling = false
            return state.needsAnotherPoll && !state.isCancelled
        }
    }

    /// Takes a part, or returns `nil` if there is none or enough are being read.
    func nextPart() -> WatchPart? {
        let isFree = state.withLock { state in
            guard state.parts < Self.partLimit, !state.isCancelled else { return false }
            state.parts += 1
            return true
        }
        guard isFree else { return nil }
        if let part = watch.withLock({ $0.nextPart() }) { return part }
        state.withLock { $0.parts -= 1 }
        finish([])
        return nil
    }

    /// Reads a part and delivers what has changed.
    func read(_ part: WatchPart) {
        let findings = part.read()
        finish(watch.withLock { $0.record(findings) })
        state.withLock { $0.parts -= 1 }
    }

    /// Gives a part back that cannot be read now.
    func cancel(_ part: WatchPart) {
        watch.withLock { $0.cancel(part) }
        state.withLock { $0.parts -= 1 }
    }

    /// Delivers changes, and the completion of the first pass if they were the last.
    private func finish(_ changes: [WatchedChange]) {
        let hadFailure = state.withLock { $0.failure.take() != nil }
        let rejected = changes.isEmpty && !hadFailure ? [] : deliver(WatchBatch(changes: changes))
        let (isComplete, isCurrent) = watch.withLock { watch in
            watch.finish(changes, rejecting: rejected)
            return (watch.isComplete, watch.isCurrent)
        }
        let isFirst = state.withLock { state in
            if isCurrent { state.covered = state.announced }
            guard isComplete else { return false }
            defer { state.hasReportedCompletion = true }
            return !state.hasReportedCompletion
        }
        if isFirst { _ = deliver(WatchBatch(isComplete: true)) }
    }

    private func report(failure: StoreError) {
        let isNew = state.withLock { state in
            defer { state.failure = failure }
            return state.failure != failure
        }
        if isNew { _ = deliver(WatchBatch(failure: failure)) }
    }
}

extension VolumeStore {
    package func watch(_ scope: WatchScope, _ deliver: @escaping WatchDelivery) -> StoreWatch {
        let isDisposable = options.disposable.contains { scope == .below($0) }
        let subscription = WatchSubscription(
            volume: volume,
            scope: scope,
            isDisposable: isDisposable,
            deliver: deliver
        )
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

    /// Polls a key now, because this process has changed it.
    func refresh(_ key: StoreKey) {
        for subscription in shared.withLock({ $0.watches }) where subscription.scope.contains(key) {
            subscription.enqueue(key)
            submitPoll(of: subscription)
        }
    }

    private func pollPeriodically(_ subscription: WatchSubscription) {
        guard !subscription.isCancelled else { return }
        submitPoll(of: subscription)
        timers.schedule(at: .now() + options.watchInterval) { [weak self] in self?.pollPeriodically(subscription) }
    }

    func submitPoll(of subscription: WatchSubscription) {
        guard subscription.begin() else { return }
        let isAccepted = readers.submit { [weak self] in
            guard let self else { return }
            let needsAnother = subscription.poll(after: shared.withLock { $0.announced })
            submitParts(of: subscription)
            updateSeen()
            if needsAnother { submitPoll(of: subscription) }
        }
        if !isAccepted { _ = subscription.end() }
    }

    private func submitParts(of subscription: WatchSubscription) {
        while let part = subscription.nextPart() {
            let isAccepted = readers.submit { [weak self] in
                subscription.read(part)
                self?.submitParts(of: subscription)
                self?.updateSeen()
            }
            guard isAccepted else { return subscription.cancel(part) }
        }
    }
}
