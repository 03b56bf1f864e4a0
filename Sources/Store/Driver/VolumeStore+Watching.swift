package import NIOCore
import Synchronization
import Threads

/// One consumer's watch of a prefix. Its polls are jobs of the store's readers, one at a time.
final class WatchSubscription: Sendable {
    let feed = ChangeFeed()
    private let watch: ThreadConfined<PrefixWatch>
    private let onProblem: @Sendable (StoreKey, StoreError) -> Void
    private let state = Mutex(State())

    private struct State {
        var isPolling = false
        /// Whether a key was enqueued during the poll, so that another poll has to follow.
        var needsAnotherPoll = false
        /// The keys that the next poll has to inspect.
        var enqueued: Set<StoreKey> = []
        /// The problems that have been reported.
        var problems: [StoreKey: StoreError.Code] = [:]
    }

    init(volume: Volume, prefix: StoreKey, onProblem: @escaping @Sendable (StoreKey, StoreError) -> Void) {
        watch = ThreadConfined(PrefixWatch(volume: volume, prefix: prefix))
        self.onProblem = onProblem
    }

    /// Adds a key that a peer has announced to the next poll.
    func enqueue(_ key: StoreKey) {
        state.withLock { state in
            state.enqueued.insert(key)
            state.needsAnotherPoll = state.isPolling
        }
    }

    /// Marks a poll as started. Returns `false` if one is in progress.
    func begin() -> Bool {
        state.withLock { state in
            guard !state.isPolling else { return false }
            state.isPolling = true
            state.needsAnotherPoll = false
            return true
        }
    }

    /// Polls once and ends the poll that ``begin()`` started. Returns whether another should follow at once.
    func poll() -> Bool {
        let enqueued = state.withLock { state in
            defer { state.enqueued = [] }
            return state.enqueued
        }
        for key in enqueued { watch.value.enqueue(key) }
        var needsImmediatePoll = false
        if let changes = try? watch.value.poll() {
            feed.offer(changes)
            report(watch.value.problems)
            needsImmediatePoll = watch.value.needsImmediatePoll && !feed.isFinished
        }
        return end() || needsImmediatePoll
    }

    /// Reports each new problem of a key once. A volume that does not respond is part of the store's state, not a
    /// problem of a key.
    private func report(_ problems: [StoreKey: StoreError]) {
        let lasting = problems.filter { !$0.value.isTransient }
        let new = state.withLock { state in
            defer { state.problems = lasting.mapValues(\.code) }
            return lasting.filter { state.problems[$0.key] != $0.value.code }
        }
        for (key, problem) in new.sorted(by: { $0.key < $1.key }) { onProblem(key, problem) }
    }

    /// Marks the poll as ended. Returns whether another should follow at once.
    func end() -> Bool {
        state.withLock { state in
            state.isPolling = false
            return state.needsAnotherPoll
        }
    }
}

/// A replica whose journal this store reads.
final class ObservedReplica: Sendable {
    private let reader: Mutex<ThreadConfined<JournalReader>>
    /// The result of the last read, returned while another read hangs.
    private let last = Mutex(ReplicaObservation(lastHeartbeat: nil, view: nil, problem: nil))

    init(volume: Volume, replica: Incarnation) {
        reader = Mutex(ThreadConfined(JournalReader(volume: volume, replica: replica)))
    }

    var observation: ReplicaObservation { last.withLock { $0 } }

    /// Reads the journal, unless another thread is reading it.
    func poll(_ volume: Volume) -> ReplicaObservation {
        let observation = reader.withLockIfAvailable { reader in
            var problem: StoreError?
            do throws(StoreError) {
                try volume.revalidate(Volume.replicas)
                _ = try reader.value.poll()
            } catch {
                problem = error
            }
            let observation = ReplicaObservation(
                lastHeartbeat: reader.value.lastHeartbeat,
                view: reader.value.view,
                problem: problem
            )
            last.withLock { $0 = observation }
            return observation
        }
        if let observation { return observation }
        var before = self.observation
        before.problem = StoreError(
            .stalled,
            volume.files.root,
            "a read of this replica's journal is still in progress"
        )
        return before
    }
}

extension VolumeStore {
    package func changes(_ prefix: StoreKey) -> StoreChanges {
        let subscription = WatchSubscription(volume: volume, prefix: prefix) { [weak self] key, problem in
            let hook = self?.shared.withLock { $0.problemHook }
            hook?(key, problem)
        }
        let isOpen = shared.withLock { shared in
            if !shared.isClosed { shared.watches[prefix, default: []].append(subscription) }
            return !shared.isClosed
        }
        if isOpen { pollPeriodically(subscription, prefix) } else { subscription.feed.finish() }
        return StoreChanges(feed: subscription.feed)
    }

    package func refresh(_ keys: [StoreKey]) {
        for key in keys {
            guard let prefix = key.parent else { continue }
            for subscription in shared.withLock({ $0.watches[prefix] ?? [] }) {
                subscription.enqueue(key)
                submitPoll(of: subscription)
            }
        }
    }

    package func observe(_ replica: Incarnation) async -> ReplicaObservation {
        await observe(replica, within: options.callDeadline)
    }

    package func observe(_ replica: Incarnation, within limit: TimeAmount) async -> ReplicaObservation {
        let volume = volume
        let observed = shared.withLock { shared in
            if let known = shared.observed[replica] { return known }
            // More than there ever are live replicas: most of these are dead and will not be asked for again.
            if shared.observed.count >= 1_024 { shared.observed.removeAll() }
            let new = ObservedReplica(volume: volume, replica: replica)
            shared.observed[replica] = new
            return new
        }
        do throws(StoreError) {
            return try await perform(on: readers, within: limit) { volume throws(StoreError) in
                observed.poll(volume)
            }
        } catch {
            var observation = observed.observation
            observation.problem = error
            return observation
        }
    }

    private func pollPeriodically(_ subscription: WatchSubscription, _ prefix: StoreKey) {
        guard !subscription.feed.isFinished else {
            shared.withLock { $0.watches[prefix]?.removeAll { $0 === subscription } }
            return
        }
        submitPoll(of: subscription)
        timers.schedule(at: .now() + options.watchInterval) { [weak self] in
            self?.pollPeriodically(subscription, prefix)
        }
    }

    private func submitPoll(of subscription: WatchSubscription) {
        guard subscription.begin() else { return }
        let isAccepted = readers.submit { [weak self] in
            if subscription.poll() { self?.submitPoll(of: subscription) }
        }
        if !isAccepted { _ = subscription.end() }
    }
}
