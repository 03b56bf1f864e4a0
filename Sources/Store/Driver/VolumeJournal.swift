import NIOCore
import Synchronization
import Threads

/// The journal of this process on a ``VolumeStore``.
///
/// Collects changes from any thread under a lock and applies them in jobs of the store's writer thread, at most one at
/// a time. A timer starts the next job when a change or a heartbeat is due.
final class VolumeJournal: StoreJournal {
    private struct State {
        var incarnation: Incarnation
        /// Rows that changed since the last commit began; `nil` for a removed row.
        var rows: [[UInt8]: [UInt8]?] = [:]
        /// The heartbeat as the caller wants it. Only the fields that belong to the caller count; see
        /// ``Heartbeat/adopt(_:)``.
        var desired: Heartbeat
        var isChanged = false
        /// Whether the replica information has to be written again.
        var isInfoStale = false
        /// The completions of flushes that wait for the next job.
        var flushes: [@Sendable (Swift.Result<Void, StoreError>) -> Void] = []
        /// The completions of flushes whose job is running.
        var flushing: [@Sendable (Swift.Result<Void, StoreError>) -> Void] = []
        /// Whether a job of the writer is queued or running.
        var isTickScheduled = false
        /// The time at which the timer starts the next job, or `nil` if none is scheduled.
        var due: NIODeadline?
        var timer: UInt64 = 0
        var isClosed = false
    }

    private let volume: Volume
    private let writer: BlockingWorkQueue
    private let timers: TimerThread
    private let health: StoreHealth
    private let options: JournalOptions
    /// Confined to jobs of the writer.
    private let journal: ThreadConfined<JournalWriter>
    private let commitInterval: TimeAmount
    private let recordDuration: @Sendable (TimeAmount) -> Void
    private let state: Mutex<State>

    /// - Parameter journal: A writer on which ``JournalWriter/begin(as:info:now:)`` has succeeded.
    init(store: VolumeStore, options: JournalOptions, journal: JournalWriter) {
        volume = store.volume
        writer = store.writer
        timers = store.timers
        health = store.health
        self.options = options
        self.journal = ThreadConfined(journal)
        commitInterval = journal.pace.commitInterval
        recordDuration = { [weak store] in store?.record(.heartbeat, $0) }
        state = Mutex(State(incarnation: journal.incarnation, desired: journal.heartbeat))
        scheduleTick(at: .now())
    }

    var incarnation: Incarnation { state.withLock { $0.incarnation } }

    func put(key: [UInt8], value: [UInt8]) {
        precondition(key.count <= JournalRecord.keyLimit && value.count <= JournalRecord.valueLimit)
        state.withLock { $0.rows[key] = .some(value) }
        scheduleTick(at: .now())
    }

    func remove(key: [UInt8]) {
        state.withLock { $0.rows[key] = .some(nil) }
        scheduleTick(at: .now())
    }

    func update(_ change: @escaping @Sendable (inout Heartbeat) -> Void) {
        state.withLock { state in
            change(&state.desired)
            state.isChanged = true
        }
        scheduleTick(at: .now())
    }

    func announce() -> UInt64 {
        let number = state.withLock { state in
            state.desired.published &+= 1
            state.isChanged = true
            return state.desired.published
        }
        scheduleTick(at: .now())
        return number
    }

    func renewInfo() {
        state.withLock { $0.isInfoStale = true }
        scheduleTick(at: .now())
    }

    func flush(within limit: TimeAmount) async throws(StoreError) {
        let result: Swift.Result<Void, StoreError> = await withCheckedContinuation { continuation in
            let call = PendingCall(continuation, dropped: VolumeStore.closed)
            let root = volume.files.root
            let timer = timers.schedule(at: .now() + limit) {
                call.resume(.failure(StoreError(.stalled, root, "the volume did not answer in time")))
            }
            _ = call.setTimer(timer)
            let timers = timers
            let isOpen = state.withLock { state in
                guard !state.isClosed, state.flushes.count < 1_024 else { return false }
                state.flushes.append { if let timer = call.resume($0) { timers.cancel(timer) } }
                return true
            }
            if !isOpen {
                call.resume(.failure(StoreError(.closed, root, "the journal was closed")))
                timers.cancel(timer)
            }
            scheduleTick(at: .now())
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

    /// Ensures that a job of the writer starts at the given time or earlier.
    private func scheduleTick(at due: NIODeadline) {
        let old = state.withLock { state -> UInt64? in
            guard !state.isClosed, !state.isTickScheduled, state.due.map({ due < $0 }) ?? true else { return nil }
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
            defer { state.isTickScheduled = true }
            state.due = nil
            return !state.isTickScheduled && !state.isClosed
        }
        guard isFirst else { return }
        // From here on the store's health counts the time until the writer is done.
        health.roundTripStarted(now: .now())
        if !writer.submit({ [weak self] in self?.tick() }) {
            state.withLock { $0.isTickScheduled = false }
            scheduleTick(at: .now() + .milliseconds(100))
        }
    }

    /// Applies the collected changes and commits what is due. Runs on the writer's thread.
    private func tick() {
        let journal = journal.value
        let (rows, desired, flushes, isInfoStale) = state.withLock { state in
            defer {
                state.rows = [:]
                state.isChanged = false
                state.isInfoStale = false
                state.flushing = state.flushes
                state.flushes = []
            }
            return (state.rows, state.desired, state.flushes, state.isInfoStale)
        }
        for (key, value) in rows {
            if let value { journal.put(key: key, value: value) } else { journal.remove(key: key) }
        }
        journal.update { $0.adopt(desired) }
        if isInfoStale { journal.replace(info: options.info(journal.incarnation)) }
        var failure: StoreError?
        let began = volume.now()
        do throws(StoreError) {
            // Changes may have to wait for the commit interval: then the flushes wait for the job after it.
            switch try journal.tick(now: volume.now()) {
            case .idle: health.roundTripCancelled()
            case .committed:
                health.roundTripSucceeded(now: .now())
                recordDuration(volume.now() - began)
            case .fenced:
                try restart(journal)
                health.roundTripSucceeded(now: .now())
            }
        } catch {
            failure = error
            health.roundTripFailed(error, now: .now())
            recordDuration(volume.now() - began)
        }
        let isCommitted = failure == nil && !journal.hasChanges
        let next = journal.nextTick
        state.withLock { state in
            state.isTickScheduled = false
            state.flushing = []
            if failure == nil, !isCommitted { state.flushes = flushes + state.flushes }
        }
        if let failure {
            for flush in flushes { flush(.failure(failure)) }
        } else if isCommitted {
            for flush in flushes { flush(.success(())) }
        }
        let hasMore = state.withLock { !$0.rows.isEmpty || $0.isChanged || !$0.flushes.isEmpty }
        scheduleTick(at: failure == nil && hasMore ? min(next, .now() + commitInterval) : next)
    }

    /// Starts the journal again under a new incarnation, with all its rows, because others have archived the old one.
    private func restart(_ journal: JournalWriter) throws(StoreError) {
        let incarnation = options.incarnation()
        try journal.begin(as: incarnation, info: options.info(incarnation), now: volume.now())
        state.withLock { $0.incarnation = incarnation }
        options.onNewIncarnation(incarnation)
    }
}

extension VolumeStore {
    package func journal(_ options: JournalOptions) async throws(StoreError) -> any StoreJournal {
        let (pace, health) = (self.options.pace, health)
        let incarnation = options.incarnation()
        let info = options.info(incarnation)
        let begun = try await perform(on: writer) { volume throws(StoreError) in
            let journal = JournalWriter(volume: volume, pace: pace)
            do throws(StoreError) {
                try journal.begin(as: incarnation, info: info, now: volume.now())
            } catch {
                // No heartbeat follows that would report the failure.
                health.roundTripFailed(error, now: .now())
                throw error
            }
            return ThreadConfined(journal)
        }
        let journal = VolumeJournal(store: self, options: options, journal: begun.value)
        let isFirst = shared.withLock { shared in
            guard !shared.isClosed, shared.journal == nil else { return false }
            shared.journal = journal
            return true
        }
        guard isFirst else {
            journal.close()
            throw StoreError(.closed, volume.files.root, "the store is closed or already has a journal")
        }
        return journal
    }
}

extension Heartbeat {
    /// Copies the fields that belong to the user of a journal. The flag about the log belongs to the writer.
    fileprivate mutating func adopt(_ desired: Heartbeat) {
        let logState = flags.intersection(.rowsNewerThanLog)
        state = desired.state
        published = desired.published
        seen = desired.seen
        flags = desired.flags.subtracting(.rowsNewerThanLog).union(logState)
        sessions = desired.sessions
        load = desired.load
    }
}
