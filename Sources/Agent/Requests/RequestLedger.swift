import DequeModule
package import HopProtocol
package import NIOCore

/// What this run of the agent remembers of requests, so that a non-idempotent one runs at most once.
///
/// A pure value: the owner guards it with a lock, tells it the time, and acts on its decisions outside the lock.
/// `Attempt` is whatever names a running attempt to its owner, so that a later one can end it.
///
/// Non-idempotent ids are never evicted: they stay until 60 s after their end, and when the table is full new ones are
/// refused. Idempotent ids have a table of their own, in which the one that ended first makes room: running such a
/// request again does no harm, and reading must not use up what guards writing.
package struct RequestLedger<Attempt: Sendable>: Sendable {
    package enum Decision: Sendable {
        /// Recorded: call the origin.
        case run
        /// Recorded in place of an older attempt that still runs: end that one, then call the origin.
        case replace(Attempt)
        /// Reset the stream with this code; nothing was recorded.
        case refuse(HopCode)
    }

    private struct Entry {
        var attempt: UInt64
        /// nil: it ended.
        var running: Attempt?
    }

    /// An id that ended, in the order of the ends.
    private struct End {
        var id: RequestID
        var attempt: UInt64
        var forgetAt: NIODeadline
    }

    private struct Table {
        var entries: [RequestID: Entry] = [:]
        var ends = Deque<End>()
    }

    private let run: RunID
    private let capacity: Int
    private let memory: TimeAmount
    private var unsafe = Table()
    private var idempotent = Table()

    package init(run: RunID, capacity: Int = 65_536, memory: TimeAmount = .seconds(60)) {
        self.run = run
        self.capacity = capacity
        self.memory = memory
    }

    /// Ids in both tables.
    package var count: Int { unsafe.entries.count + idempotent.entries.count }

    /// A request arrived.
    package mutating func begin(
        _ id: RequestID,
        attempt number: UInt64,
        run: RunID,
        isIdempotent: Bool,
        now: NIODeadline,
        attempt: Attempt
    ) -> Decision {
        guard run == self.run else { return .refuse(.wrongRun) }
        // Whatever the method now says: an id that ran without being idempotent never runs again.
        Self.forget(in: &unsafe, now: now)
        if unsafe.entries[id] != nil { return .refuse(.alreadyRan) }
        guard isIdempotent else {
            // The id was an idempotent request's: ids are 128 random bits, so this is a confused peer.
            if idempotent.entries[id] != nil { return .refuse(.alreadyRan) }
            guard unsafe.entries.count < capacity else { return .refuse(.busy) }
            unsafe.entries[id] = Entry(attempt: number, running: attempt)
            return .run
        }
        Self.forget(in: &idempotent, now: now)
        if let known = idempotent.entries[id] {
            guard number > known.attempt else { return .refuse(.stale) }
            idempotent.entries[id] = Entry(attempt: number, running: attempt)
            return known.running.map(Decision.replace) ?? .run
        }
        if idempotent.entries.count >= capacity { forgetOneIdempotent() }
        // Everything in it runs: this one goes unrecorded.
        guard idempotent.entries.count < capacity else { return .run }
        idempotent.entries[id] = Entry(attempt: number, running: attempt)
        return .run
    }

    /// The attempt ended, however it did. An attempt that was replaced, or never recorded, changes nothing.
    package mutating func end(_ id: RequestID, attempt: UInt64, isIdempotent: Bool, now: NIODeadline) {
        if isIdempotent {
            Self.end(id, attempt, in: &idempotent, forgetAt: now + memory)
        } else {
            Self.end(id, attempt, in: &unsafe, forgetAt: now + memory)
        }
    }

    /// The attempt ended and the origin provably saw nothing of it: it may come again.
    package mutating func endUnstarted(_ id: RequestID, attempt: UInt64, isIdempotent: Bool) {
        if isIdempotent {
            if idempotent.entries[id]?.attempt == attempt { idempotent.entries[id] = nil }
        } else {
            if unsafe.entries[id]?.attempt == attempt { unsafe.entries[id] = nil }
        }
    }

    private static func end(_ id: RequestID, _ attempt: UInt64, in table: inout Table, forgetAt: NIODeadline) {
        guard let entry = table.entries[id], entry.attempt == attempt, entry.running != nil else { return }
        table.entries[id] = Entry(attempt: attempt, running: nil)
        table.ends.append(End(id: id, attempt: attempt, forgetAt: forgetAt))
    }

    /// The memory is the same for all, so the ends stand in the order in which they are forgotten.
    private static func forget(in table: inout Table, now: NIODeadline) {
        while let end = table.ends.first, end.forgetAt <= now {
            table.ends.removeFirst()
            remove(end, from: &table)
        }
    }

    private mutating func forgetOneIdempotent() {
        while idempotent.entries.count >= capacity, let end = idempotent.ends.popFirst() {
            Self.remove(end, from: &idempotent)
        }
    }

    /// An id that a higher attempt took since is left alone.
    private static func remove(_ end: End, from table: inout Table) {
        guard let entry = table.entries[end.id], entry.attempt == end.attempt, entry.running == nil else { return }
        table.entries[end.id] = nil
    }
}
