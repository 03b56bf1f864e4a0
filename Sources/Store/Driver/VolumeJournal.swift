internal import NIOCore
internal import Synchronization

/// The journal of this process on a ``VolumeStore``: takes changes from any thread, hands them to the store's writer.
final class VolumeJournal: StoreJournal {
    private struct State {
        var incarnation: Incarnation
        /// Rows that changed since the last commit began; nil: removed.
        var rows: [[UInt8]: [UInt8]?] = [:]
        /// What the heartbeat is to say about the replica; of the rest the writer knows better.
        var wanted: Heartbeat
        var isChanged = false
        var isCardOld = false
        var flushes: [@Sendable (Swift.Result<Void, StoreError>) -> Void] = []
        /// Those whose job of the writer is under way.
        var flushing: [@Sendable (Swift.Result<Void, StoreError>) -> Void] = []
        /// A job of the writer is on its way.
        var isTicking = false
        /// When the timer will start the next one.
        var due: NIODeadline?
        var timer: UInt64 = 0
        var isClosed = false
    }

    private let volume: Volume
    private let writer: BlockingWorkQueue
    private let timers: TimerThread
    private let health: StoreHealth
    private let options: JournalOptions
    /// Touched by jobs of the writer only.
    private let journal: Unshared<JournalWriter>
    private let betweenCommits: TimeAmount
    private let observe: @Sendable (TimeAmount) -> Void
    private let state: Mutex<State>

    /// - Parameter journal: has begun.
    init(store: VolumeStore, options: JournalOptions, journal: JournalWriter) {
        volume = store.volume
        writer = store.writer
        timers = store.timers
        health = store.health
        self.options = options
        self.journal = Unshared(journal)
        betweenCommits = journal.pace.betweenCommits
        observe = { [weak store] in store?.observed(.heartbeat, $0) }
        state = Mutex(State(incarnation: journal.incarnation, wanted: journal.heartbeat))
        wake(at: .now())
    }

    var incarnation: Incarnation { state.withLock { $0.incarnation } }

    func put(key: [UInt8], value: [UInt8]) {
        precondition(key.count <= JournalRecord.keyLimit && value.count <= JournalRecord.valueLimit)
        state.withLock { $0.rows[key] = .some(value) }
        wake(at: .now())
    }

    func remove(key: [UInt8]) {
        state.withLock { $0.rows[key] = .some(nil) }
        wake(at: .now())
    }

    func update(_ change: @escaping @Sendable (inout Heartbeat) -> Void) {
        state.withLock { state in
            change(&state.wanted)
            state.isChanged = true
        }
        wake(at: .now())
    }

    func announce() -> UInt64 {
        let number = state.withLock { state in
            state.wanted.published &+= 1
            state.isChanged = true
            return state.wanted.published
        }
        wake(at: .now())
        return number
    }

    func renewCard() {
        state.withLock { $0.isCardOld = true }
        wake(at: .now())
    }

    func flush(within limit: TimeAmount) async throws(StoreError) {
        let result: Swift.Result<Void, StoreError> = await withCheckedContinuation { continuation in
            let waiter = PendingCall(continuation)
            let root = volume.files.root
            let timer = timers.schedule(at: .now() + limit) {
                _ = waiter.answer(.failure(StoreError(.stalled, root, "the volume did not answer in time")))
            }
            _ = waiter.holds(timer: timer)
            let timers = timers
            let isOpen = state.withLock { state in
                guard !state.isClosed, state.flushes.count < 1_024 else { return false }
                state.flushes.append { if let timer = waiter.answer($0) { timers.cancel(timer) } }
                return true
            }
            if !isOpen {
                _ = waiter.answer(.failure(StoreError(.closed, root, "the journal was closed")))
                timers.cancel(timer)
            }
            wake(at: .now())
        }
        try result.get()
    }

    func close() {
        let (flushes, timer) = state.withLock { state in
            defer { (state.flushes, state.flushing) = ([], []) }
            state.isClosed = true
            return (state.flushes + state.flushing, state.timer)
        }
        timers.cancel(timer)
        for flush in flushes { flush(.failure(StoreError(.closed, volume.files.root, "the journal was closed"))) }
    }

    /// Sees to it that the writer looks at this journal then, or before.
    private func wake(at due: NIODeadline) {
        let old = state.withLock { state -> UInt64? in
            guard !state.isClosed, !state.isTicking, state.due.map({ due < $0 }) ?? true else { return nil }
            state.due = due
            return state.timer
        }
        guard let old else { return }
        timers.cancel(old)
        let timer = timers.schedule(at: due) { [weak self] in self?.submitTick() }
        state.withLock { $0.timer = timer }
    }

    private func submitTick() {
        let isFirst = state.withLock { state in
            defer { state.isTicking = true }
            state.due = nil
            return !state.isTicking && !state.isClosed
        }
        guard isFirst else { return }
        // From here on the store's health waits for the writer.
        health.began(now: .now())
        if !writer.submit({ [weak self] in self?.tick() }) {
            state.withLock { $0.isTicking = false }
            wake(at: .now() + .milliseconds(100))
        }
    }

    /// On the writer's thread.
    private func tick() {
        let journal = journal.value
        let (rows, wanted, flushes, isCardOld) = state.withLock { state in
            defer {
                state.rows = [:]
                state.isChanged = false
                state.isCardOld = false
                state.flushing = state.flushes
                state.flushes = []
            }
            return (state.rows, state.wanted, state.flushes, state.isCardOld)
        }
        for (key, value) in rows {
            if let value { journal.put(key: key, value: value) } else { journal.remove(key: key) }
        }
        journal.update { $0.take(wanted) }
        if isCardOld { journal.replace(card: options.card(journal.incarnation)) }
        var failure: StoreError?
        let began = volume.now()
        do throws(StoreError) {
            // Changes wait for the pause between commits: come back then, and let the flushes wait too.
            switch try journal.tick(now: volume.now()) {
            case .idle: health.abandoned()
            case .committed:
                health.succeeded(now: .now())
                observe(volume.now() - began)
            case .fenced:
                try beginAgain(journal)
                health.succeeded(now: .now())
            }
        } catch {
            failure = error
            health.failed(error, now: .now())
            observe(volume.now() - began)
        }
        let isCommitted = failure == nil && !journal.hasChanges
        let next = journal.nextTick
        state.withLock { state in
            state.isTicking = false
            state.flushing = []
            if failure == nil, !isCommitted { state.flushes = flushes + state.flushes }
        }
        if let failure {
            for flush in flushes { flush(.failure(failure)) }
        } else if isCommitted {
            for flush in flushes { flush(.success(())) }
        }
        let isMore = state.withLock { !$0.rows.isEmpty || $0.isChanged || !$0.flushes.isEmpty }
        wake(at: failure == nil && isMore ? min(next, .now() + betweenCommits) : next)
    }

    /// Others took this process for dead: it goes on under a new name, with all its rows.
    private func beginAgain(_ journal: JournalWriter) throws(StoreError) {
        let incarnation = options.incarnation()
        try journal.begin(as: incarnation, card: options.card(incarnation), now: volume.now())
        state.withLock { $0.incarnation = incarnation }
        options.onNewIncarnation(incarnation)
    }
}

extension VolumeStore {
    package func journal(_ options: JournalOptions) async throws(StoreError) -> any StoreJournal {
        let (pace, health) = (self.options.pace, health)
        let incarnation = options.incarnation()
        let card = options.card(incarnation)
        let begun = try await perform(on: writer) { volume throws(StoreError) in
            let journal = JournalWriter(volume: volume, pace: pace)
            do throws(StoreError) {
                try journal.begin(as: incarnation, card: card, now: volume.now())
            } catch {
                // No beat follows that could say so.
                health.failed(error, now: .now())
                throw error
            }
            return Unshared(journal)
        }
        let journal = VolumeJournal(store: self, options: options, journal: begun.value)
        let isFirst = shared.withLock { shared in
            guard !shared.isClosed, shared.journal == nil else { return false }
            shared.journal = journal
            return true
        }
        guard isFirst else {
            journal.close()
            throw StoreError(.closed, volume.files.root, "the store is closed, or has a journal already")
        }
        return journal
    }
}

extension Heartbeat {
    /// What the user of a journal decides. The flag about the log is the writer's.
    fileprivate mutating func take(_ wanted: Heartbeat) {
        let behind = flags.intersection(.rowsNewerThanLog)
        state = wanted.state
        published = wanted.published
        seen = wanted.seen
        flags = wanted.flags.subtracting(.rowsNewerThanLog).union(behind)
        sessions = wanted.sessions
        load = wanted.load
    }
}
