package import NIOCore

/// Writes the journal of this process: heartbeat, snapshot and log.
///
/// The owner calls ``begin(as:info:now:)`` first. Then it reports changes with ``put(key:value:)``, ``remove(key:)``
/// and ``update(_:)`` and calls ``tick(now:)`` at ``nextTick`` and after changes. A tick appends the changes to the
/// log, makes it durable, and writes a heartbeat that states the new length; only then the changes are part of the
/// journal. When the log has grown too long, a tick starts a new generation with a snapshot of the whole table. When
/// `tick` returns ``Outcome/fenced``, others have archived the journal and the owner begins again under a new
/// incarnation; for both the whole table is kept in memory.
///
/// Confined to one thread, the store's writer; creates no threads and no timers.
package final class JournalWriter {
    /// The intervals and size limits of a journal.
    package struct Pace: Sendable {
        /// The shortest time between two commits.
        package var commitInterval = TimeAmount.milliseconds(50)
        /// The time between two heartbeats without changes.
        package var heartbeatInterval = TimeAmount.seconds(1)
        /// The time until the next attempt after a failure.
        package var retryDelay = TimeAmount.milliseconds(500)
        /// The time for which the files of an earlier generation are kept for readers.
        package var oldFileRetention = TimeAmount.seconds(60)
        /// The size of the log beyond which a new generation starts, if the log is also larger than the snapshot.
        package var logLimit: UInt64 = 1 << 20
        /// The multiple of bytes up to which the log is filled with zeros.
        package var logAllocationStep: UInt64 = 1 << 20

        package init() {}
    }

    /// The result of a tick.
    package enum Outcome: Equatable, Sendable {
        /// No work was due.
        case idle
        /// All changes up to this call are durable and visible, and the heartbeat was read back.
        case committed
        /// The folder is gone or was taken over: others consider this incarnation dead. The owner calls
        /// ``JournalWriter/begin(as:info:now:)``.
        case fenced
    }

    let volume: Volume
    let pace: Pace
    package internal(set) var heartbeat: Heartbeat
    package internal(set) var table = JournalTable()
    /// The changes that are in the table but not in the log.
    var pending: [JournalRecord] = []
    /// Whether a field of the heartbeat itself changed.
    var isDirty = false
    /// Whether the log cannot be continued, so that the next commit starts a new generation.
    var needsNewGeneration = false
    /// The length up to which the log is filled with zeros.
    var allocated: UInt64 = 0
    var snapshotSize: UInt64 = 0
    /// The replica information that has to be written.
    var newInfo: [UInt8]?
    /// Whether the heartbeat's file must be replaced instead of written in place, because a write failed.
    var heartbeatIsSuspect = false
    /// The earlier generations whose files still exist, and when to delete them.
    var oldGenerations: [(generation: UInt64, deleteAt: NIODeadline)] = []
    /// Whether the last tick has written the heartbeat, although it may have failed to write the log.
    private(set) var isHeartbeatWritten = false
    private var lastCommit = NIODeadline.uptimeNanoseconds(0)
    private var failedAt: NIODeadline?

    package init(volume: Volume, pace: Pace = Pace()) {
        self.volume = volume
        self.pace = pace
        // Replaced by the first call of `begin`.
        heartbeat = Heartbeat(incarnation: Incarnation(high: 0, low: 0))
    }

    package var incarnation: Incarnation { heartbeat.incarnation }
    var folder: String { "\(Volume.replicas)/\(heartbeat.incarnation)" }

    /// Sets a row, whose size the caller has checked. Setting a row to its current value does nothing.
    package func put(key: [UInt8], value: [UInt8]) {
        guard table.rows[key] != value else { return }
        change(.put(key: key, value: value))
    }

    /// Removes a row.
    package func remove(key: [UInt8]) {
        guard table.rows[key] != nil else { return }
        change(.remove(key: key))
    }

    /// Changes the fields of the heartbeat that belong to the caller; the others are restored.
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

    /// Replaces the information that the replica publishes in addition to its heartbeat.
    package func replace(info: [UInt8]) { newInfo = info }

    private func change(_ record: JournalRecord) {
        table.apply(record)
        pending.append(record)
        // With more changes than rows a snapshot is shorter than the log.
        if pending.count > 4_096, pending.count > 2 * table.rows.count {
            pending = []
            needsNewGeneration = true
        }
    }

    /// Whether any change is not in the journal yet.
    package var hasChanges: Bool { isDirty || !pending.isEmpty || needsNewGeneration || newInfo != nil }

    /// The time at which ``tick(now:)`` has work to do.
    package var nextTick: NIODeadline {
        if let failedAt { return failedAt + pace.retryDelay }
        return lastCommit + (hasChanges ? pace.commitInterval : pace.heartbeatInterval)
    }

    /// Performs the work that is due: a commit or a heartbeat.
    ///
    /// - Throws: The failure of the volume. Changes stay pending, and ``nextTick`` is the time of the next attempt.
    package func tick(now: NIODeadline) throws(StoreError) -> Outcome {
        guard now >= nextTick else { return .idle }
        failedAt = now
        isHeartbeatWritten = false
        deleteOldFiles(now: now)
        var logFailure: StoreError?
        do {
            try writeInfo()
            try needsNewGeneration || logIsLong ? startGeneration(now: now) : append()
            heartbeat.flags.remove(.rowsNewerThanLog)
        } catch {
            // The heartbeat is written in place and may succeed where the log fails, for example on a full disk.
            guard error.code == .full || error.code == .transient || error.code == .unconfirmed else {
                if error.code == .notFound, try isFenced() { return .fenced }
                throw error
            }
            logFailure = error
            heartbeat.flags.insert(.rowsNewerThanLog)
        }
        guard try writeHeartbeat() else { return .fenced }
        isHeartbeatWritten = true
        for index in oldGenerations.indices where oldGenerations[index].deleteAt == .distantFuture {
            oldGenerations[index].deleteAt = now + pace.oldFileRetention
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
