package import NIOCore

/// Writes the journal of this process: heartbeat, snapshot, log.
///
/// A change is appended to the log and becomes part of the journal with the next heartbeat; each is made durable. The
/// table is kept here whole, because a new generation, or a new incarnation, begins with all of it.
///
/// Sans thread; belongs to one thread, the store's writer. The owner calls ``tick(now:)`` at ``nextTick`` and whenever it
/// has changed something.
package final class JournalWriter {
    /// What the store has to be able to do, and how fast, is seen by these.
    package struct Pace: Sendable {
        /// At least so long between two commits.
        package var betweenCommits = TimeAmount.milliseconds(50)
        /// Without changes a beat comes so often.
        package var idleBeat = TimeAmount.seconds(1)
        /// After a failure.
        package var retry = TimeAmount.milliseconds(500)
        /// Files of the generation before are read for so long.
        package var oldFilesStay = TimeAmount.seconds(60)
        /// A log that grew beyond this, and beyond the snapshot, begins a new generation.
        package var logLimit: UInt64 = 1 << 20
        /// The log is filled with zeros up to a multiple of this.
        package var logStep: UInt64 = 1 << 20

        package init() {}
    }

    package enum Outcome: Equatable, Sendable {
        /// Nothing was due.
        case idle
        /// All changes up to this call are durable and visible, and the heartbeat was read back.
        case committed
        /// The folder is gone or not ours: others take this incarnation for dead. Call ``begin(as:card:now:)``.
        case fenced
    }

    let volume: Volume
    let pace: Pace
    package internal(set) var heartbeat: Heartbeat
    package internal(set) var table = JournalTable()
    /// Changes that are in the table and not in the log.
    var pending: [JournalRecord] = []
    /// Something in the heartbeat itself changed.
    var isDirty = false
    /// The log cannot be continued; the next commit begins a new generation.
    var needsFlip = false
    /// Zeros are on the disk up to here.
    var allocated: UInt64 = 0
    var snapshotSize: UInt64 = 0
    /// A card that is not in the folder yet.
    var newCard: [UInt8]?
    /// The heartbeat's file is not to be written in place again.
    var heartbeatIsSuspect = false
    var oldGenerations: [(generation: UInt64, deleteAt: NIODeadline)] = []
    private var lastCommit = NIODeadline.uptimeNanoseconds(0)
    private var failedAt: NIODeadline?

    package init(volume: Volume, pace: Pace = Pace()) {
        self.volume = volume
        self.pace = pace
        // Replaced by the first begin.
        self.heartbeat = Heartbeat(incarnation: Incarnation(high: 0, low: 0))
    }

    package var incarnation: Incarnation { heartbeat.incarnation }
    var folder: String { "\(Volume.replicas)/\(heartbeat.incarnation)" }

    /// Changes a row. A row that is what it was already costs nothing.
    package func put(key: [UInt8], value: [UInt8]) {
        precondition(key.count <= JournalRecord.keyLimit && value.count <= JournalRecord.valueLimit)
        guard table.rows[key] != value else { return }
        change(.put(key: key, value: value))
    }

    package func remove(key: [UInt8]) {
        guard table.rows[key] != nil else { return }
        change(.remove(key: key))
    }

    /// Changes what the heartbeat says about the replica itself.
    package func update(_ change: (inout Heartbeat) -> Void) {
        var changed = heartbeat
        change(&changed)
        changed.incarnation = heartbeat.incarnation
        changed.sequence = heartbeat.sequence
        changed.generation = heartbeat.generation
        changed.logLength = heartbeat.logLength
        guard changed != heartbeat else { return }
        heartbeat = changed
        isDirty = true
    }

    /// Changes what the replica says of itself beside its heartbeat.
    package func replace(card: [UInt8]) { newCard = card }

    private func change(_ record: JournalRecord) {
        table.apply(record)
        pending.append(record)
        // Of more changes than rows only the table is of interest.
        if pending.count > 4_096, pending.count > 2 * table.rows.count {
            pending = []
            needsFlip = true
        }
    }

    /// Something is not in the journal yet.
    package var hasChanges: Bool { isDirty || !pending.isEmpty || needsFlip || newCard != nil }

    /// When ``tick(now:)`` has something to do.
    package var nextTick: NIODeadline {
        if let failedAt { return failedAt + pace.retry }
        return lastCommit + (hasChanges ? pace.betweenCommits : pace.idleBeat)
    }

    /// Does what is due: a commit, or a beat.
    ///
    /// - Throws: what the volume said; changes stay pending and ``nextTick`` says when to try again.
    package func tick(now: NIODeadline) throws(StoreError) -> Outcome {
        guard now >= nextTick else { return .idle }
        failedAt = now
        deleteOldFiles(now: now)
        var logFailure: StoreError?
        do {
            try writeCard()
            try needsFlip || logIsLong ? flip(now: now) : append()
            heartbeat.flags.remove(.rowsNewerThanLog)
        } catch {
            // The heartbeat is written in place and may well work where the log does not, on a full disk for one.
            guard error.code == .full || error.code == .transient || error.code == .unconfirmed else {
                if error.code == .notFound, try isFenced() { return .fenced }
                throw error
            }
            logFailure = error
            heartbeat.flags.insert(.rowsNewerThanLog)
        }
        guard try beat() else { return .fenced }
        for index in oldGenerations.indices where oldGenerations[index].deleteAt == .distantFuture {
            oldGenerations[index].deleteAt = now + pace.oldFilesStay
        }
        isDirty = false
        if let logFailure { throw logFailure }
        lastCommit = now
        failedAt = nil
        return .committed
    }

    private var logIsLong: Bool {
        heartbeat.logLength > max(pace.logLimit, snapshotSize)
    }
}
