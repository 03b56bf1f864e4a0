package import NIOCore
internal import Synchronization

/// A prefix that somebody watches. Its looks are jobs of the readers, one at a time.
final class Watcher: Sendable {
    let feed = ChangeFeed()
    private let watch: Unshared<PrefixWatch>
    private let onProblem: @Sendable (StoreKey, StoreError) -> Void
    private let state = Mutex(State())

    private struct State {
        var isLooking = false
        /// Something was announced during a look.
        var again = false
        var announced: Set<StoreKey> = []
        /// Told already.
        var problems: [StoreKey: StoreError.Code] = [:]
    }

    init(volume: Volume, prefix: StoreKey, onProblem: @escaping @Sendable (StoreKey, StoreError) -> Void) {
        watch = Unshared(PrefixWatch(volume: volume, prefix: prefix))
        self.onProblem = onProblem
    }

    func announce(_ key: StoreKey) {
        state.withLock { state in
            state.announced.insert(key)
            state.again = state.isLooking
        }
    }

    /// False: a look is under way.
    func begin() -> Bool {
        state.withLock { state in
            guard !state.isLooking else { return false }
            state.isLooking = true
            state.again = false
            return true
        }
    }

    /// Looks; only after ``begin()`` said so. Returns whether it should be done again at once.
    func look() -> Bool {
        let announced = state.withLock { state in
            defer { state.announced = [] }
            return state.announced
        }
        for key in announced { watch.value.announced(key) }
        var wantsMore = false
        if let changes = try? watch.value.poll() {
            feed.offer(changes)
            tell(watch.value.problems)
            wantsMore = watch.value.wantsMore && !feed.isFinished
        }
        return end() || wantsMore
    }

    /// A volume that does not answer is the store's state, not a problem of a key.
    private func tell(_ problems: [StoreKey: StoreError]) {
        let lasting = problems.filter { !$0.value.isTransient }
        let new = state.withLock { state in
            defer { state.problems = lasting.mapValues(\.code) }
            return lasting.filter { state.problems[$0.key] != $0.value.code }
        }
        for (key, problem) in new.sorted(by: { $0.key < $1.key }) { onProblem(key, problem) }
    }

    func end() -> Bool {
        state.withLock { state in
            state.isLooking = false
            return state.again
        }
    }
}

/// A replica that somebody follows.
final class ObservedReplica: Sendable {
    private let reader: Mutex<Unshared<JournalReader>>
    /// The last answers, for whoever asks while a read hangs.
    private let last = Mutex(ReplicaObservation(pulse: nil, view: nil, problem: nil))

    init(volume: Volume, replica: Incarnation) {
        reader = Mutex(Unshared(JournalReader(volume: volume, replica: replica)))
    }

    var sight: ReplicaObservation { last.withLock { $0 } }

    /// Looks, unless another thread does.
    func look(_ volume: Volume) -> ReplicaObservation {
        let sight = reader.withLockIfAvailable { reader in
            var problem: StoreError?
            do throws(StoreError) {
                try volume.askServer(Volume.replicas)
                _ = try reader.value.poll()
            } catch {
                problem = error
            }
            let sight = ReplicaObservation(pulse: reader.value.pulse, view: reader.value.view, problem: problem)
            last.withLock { $0 = sight }
            return sight
        }
        if let sight { return sight }
        var before = self.sight
        before.problem = StoreError(.stalled, volume.files.root, "a look at this replica is still under way")
        return before
    }
}

extension VolumeStore {
    package func changes(_ prefix: StoreKey) -> StoreChanges {
        let watcher = Watcher(volume: volume, prefix: prefix) { [weak self] key, problem in
            let hook = self?.shared.withLock { $0.problemHook }
            hook?(key, problem)
        }
        let isOpen = shared.withLock { shared in
            if !shared.isClosed { shared.watches[prefix, default: []].append(watcher) }
            return !shared.isClosed
        }
        if isOpen { poll(watcher, prefix) } else { watcher.feed.finish() }
        return StoreChanges(feed: watcher.feed)
    }

    package func announced(_ keys: [StoreKey]) {
        for key in keys {
            guard let prefix = key.parent else { continue }
            for watcher in shared.withLock({ $0.watches[prefix] ?? [] }) {
                watcher.announce(key)
                look(watcher)
            }
        }
    }

    package func follow(_ replica: Incarnation) async -> ReplicaObservation {
        await follow(replica, within: options.callDeadline)
    }

    package func follow(_ replica: Incarnation, within limit: TimeAmount) async -> ReplicaObservation {
        let volume = volume
        let followed = shared.withLock { shared in
            if let known = shared.followed[replica] { return known }
            // More than ever live; those who are dead are asked about by nobody.
            if shared.followed.count >= 1_024 { shared.followed.removeAll() }
            let new = ObservedReplica(volume: volume, replica: replica)
            shared.followed[replica] = new
            return new
        }
        do throws(StoreError) {
            return try await perform(on: readers, within: limit) { volume throws(StoreError) in
                followed.look(volume)
            }
        } catch {
            var sight = followed.sight
            sight.problem = error
            return sight
        }
    }

    private func poll(_ watcher: Watcher, _ prefix: StoreKey) {
        guard !watcher.feed.isFinished else {
            shared.withLock { $0.watches[prefix]?.removeAll { $0 === watcher } }
            return
        }
        look(watcher)
        timers.schedule(at: .now() + options.watchInterval) { [weak self] in self?.poll(watcher, prefix) }
    }

    private func look(_ watcher: Watcher) {
        guard watcher.begin() else { return }
        let isAccepted = readers.submit { [weak self] in
            if watcher.look() { self?.look(watcher) }
        }
        if !isAccepted { _ = watcher.end() }
    }
}
