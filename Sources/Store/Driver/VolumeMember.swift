import NIOCore
import Synchronization
import Threads

/// This process as a member on a ``VolumeStore``: the owner of its journal.
///
/// Collects changes from any thread under a lock and applies them in jobs of the store's writer thread, at most one at
/// a time. A timer starts the next job when a change or a heartbeat is due.
final class VolumeMember: StoreMember {
    /// The highest number of changed rows that wait for the volume.
    private static let pendingRowLimit = 262_144
    /// The highest number of flushes that wait for the volume.
    private static let flushLimit = 1_024

    private struct State {
        var incarnation: Incarnation
        /// Rows that changed since the last commit began; `nil` for a removed row.
        var rows: [[UInt8]: [UInt8]?] = [:]
        var status = MemberStatus()
        /// The number of changes that this process has published.
        var published: UInt64 = 0
        var seen = Mark()
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
        /// The number of jobs in a row that found a file of the journal missing or replaced.
        var losses = 0
    }

    /// The number of ``State/losses`` after which the journal begins again: a network file system may name a file as
    /// missing that is there.
    private static let lossLimit = 3

    private let volume: Volume
    private let writer: BlockingWorkQueue
    private let timers: TimerThread
    private let health: StoreHealth
    private let options: JoinOptions
    /// Confined to jobs of the writer.
    private let journal: ThreadConfined<JournalWriter>
    private let commitInterval: TimeAmount
    private let recordDuration: @Sendable (TimeAmount) -> Void
    private let state: Mutex<State>

    /// - Parameter journal: A writer on which ``JournalWriter/begin(as:info:now:)`` has succeeded.
    init(store: VolumeStore, options: JoinOptions, journal: JournalWriter) {
        volume = store.volume
        writer = store.writer
        timers = store.timers
        health = store.health
        self.options = options
        self.journal = ThreadConfined(journal)
        commitInterval = journal.pace.commitInterval
        recordDuration = { [weak store] in store?.record(.heartbeat, $0) }
        state = Mutex(State(incarnation: journal.incarnation))
        scheduleTick(at: .now())
    }

    var incarnation: Incarnation { state.withLock { $0.incarnation } }

    var mark: Mark { state.withLock { Mark([$0.incarnation: $0.published]) } }

    func put(key: [UInt8], value: [UInt8]) throws(StoreError) {
        try JournalRecord.requireSize(key: key, value: value)
        try change(key, to: value)
    }

    func remove(key: [UInt8]) throws(StoreError) { try change(key, to: nil) }

    private func change(_ key: [UInt8], to value: [UInt8]?) throws(StoreError) {
        let isAccepted = state.withLock { state in
            guard state.rows.count < Self.pendingRowLimit || state.rows[key] != nil else { return false }
            state.rows[key] = .some(value)
            return true
        }
        guard isAccepted else {
            throw StoreError(
                .full,
                volume.files.root,
                "\(Self.pendingRowLimit) changed rows wait for the volume already; try again when it answers"
            )
        }
        scheduleTick(at: .now())
    }

    func update(_ change: @escaping @Sendable (inout MemberStatus) -> Void) { changeState { change(&$0.status) } }

    /// Counts a change of a value that this process has written.
    func recordWrite() { changeState { $0.published &+= 1 } }

    /// Publishes which changes of others this process has acted on.
    func update(seen: Mark) { changeState { $0.seen = seen } }

    private func changeState(_ change: (inout State) -> Void) {
        state.withLock { state in
            change(&state)
            state.isChanged = true
        }
        scheduleTick(at: .now())
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
            let refusal = state.withLock { state -> StoreError? in
                guard !state.isClosed else { return StoreError(.closed, root, "the store was closed") }
                guard state.flushes.count < Self.flushLimit else {
                    let reason = "\(Self.flushLimit) flushes wait for the volume already; try again when it answers"
                    return StoreError(.busy, root, reason)
                }
                state.flushes.append { if let timer = call.resume($0) { timers.cancel(timer) } }
                return nil
            }
            if let refusal {
                call.resume(.failure(refusal))
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
        for flush in flushes { flush(.failure(StoreError(.closed, volume.files.root, "the store was closed"))) }
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
        let (rows, content, flushes, isInfoStale) = state.withLock { state in
            defer {
                state.rows = [:]
                state.isChanged = false
                state.isInfoStale = false
                state.flushing = state.flushes
                state.flushes = []
            }
            let content = (status: state.status, published: state.published, seen: state.seen)
            return (state.rows, content, state.flushes, state.isInfoStale)
        }
        for (key, value) in rows {
            if let value { journal.put(key: key, value: value) } else { journal.remove(key: key) }
        }
        journal.update { heartbeat in
            heartbeat.state = content.status.state
            heartbeat.sessions = content.status.sessions
            heartbeat.load = content.status.load
            heartbeat.published = content.published
            heartbeat.seen = content.seen
        }
        if isInfoStale { journal.replace(info: options.info(journal.incarnation)) }
        var failure: StoreError?
        let began = volume.now()
        do throws(StoreError) {
            // Changes may have to wait for the commit interval: then the flushes wait for the job after it.
            switch try journal.tick(now: volume.now()) {
            case .idle: health.roundTripCancelled()
            case .committed:
                state.withLock { $0.losses = 0 }
                health.roundTripSucceeded(now: .now())
                recordDuration(volume.now() - began)
            case .fenced:
                try restart(journal)
                health.roundTripSucceeded(now: .now())
            }
        } catch {
            failure = error
            if isLost(error) {
                do throws(StoreError) {
                    try restart(journal)
                } catch let second {
                    failure = second
                }
            }
            health.roundTripFailed(error, isHeartbeatWritten: journal.isHeartbeatWritten, now: .now())
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

    /// Whether a file of the journal was deleted or replaced by hand, so that no later job can write it.
    private func isLost(_ error: StoreError) -> Bool {
        let isLoss = error.code == .notFound || error.code == .refused
        return state.withLock { state in
            state.losses = isLoss ? state.losses + 1 : 0
            guard state.losses >= Self.lossLimit else { return false }
            state.losses = 0
            return true
        }
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
    package func join(_ requested: JoinOptions) async throws(StoreError) -> any StoreMember {
        var options = requested
        // This process does not observe its own journals, from their beginning on.
        options.incarnation = { [weak self] in
            let name = requested.incarnation()
            self?.shared.withLock { _ = $0.ownNames.insert(name) }
            return name
        }
        let (pace, health) = (self.options.pace, health)
        let incarnation = options.incarnation()
        let info = options.info(incarnation)
        let begun = try await perform(on: writer) { volume throws(StoreError) in
            let journal = JournalWriter(volume: volume, pace: pace)
            do throws(StoreError) {
                try journal.begin(as: incarnation, info: info, now: volume.now())
            } catch {
                // No heartbeat follows that would report the failure.
                health.roundTripFailed(error, isHeartbeatWritten: false, now: .now())
                throw error
            }
            return ThreadConfined(journal)
        }
        let member = VolumeMember(store: self, options: options, journal: begun.value)
        let isFirst = shared.withLock { shared -> Bool in
            guard !shared.isClosed, shared.member == nil else { return false }
            shared.member = member
            member.update(seen: shared.seen)
            return true
        }
        guard isFirst else {
            member.close()
            throw StoreError(.closed, volume.files.root, "the store is closed, or this process has already joined")
        }
        return member
    }
}
