import DequeModule
package import HopProtocol
package import NIOCore

/// What this run of the agent remembers of requests, so that a non-idempotent one runs at most once.
///
/// A pure value: the owner guards it with a lock, tells it the time, and acts on its decisions outside the lock.
/// `Attempt` is whatever names a running attempt to its owner, so that a later one can end it.
///
/// Non-idempotent ids are never evicted: they stay until 60 s after their end, and when the table is full new ones are
/// refused. Its size bounds the rate that an agent sustains: 1,048,576 ids are 17,476 such requests a second. An id
/// costs 81 bytes in a full table, which has 81 MiB; it grows with what is in it, and what it grew to is given back when
/// it is empty. Idempotent ids have a table of their own, in which the one that ended first makes room: running
/// such a request again does no harm, and reading must not use up what guards writing.
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

    private struct Table {
        var entries: [RequestID: Entry] = [:]
        var ends = Deque<LedgerEnd>()
    }

    private let run: RunID
    private let idempotentCapacity: Int
    private let memory: TimeAmount
    private var once: OnceTable
    private var idempotent = Table()

    /// - Parameters:
    ///   - capacity: Non-idempotent ids.
    ///   - idempotentCapacity: At most 65,536 unless told: more would cost memory and gain nothing.
    package init(
        run: RunID,
        capacity: Int = RequestLedgerLimits.capacity,
        idempotentCapacity: Int? = nil,
        memory: TimeAmount = .seconds(60)
    ) {
        self.run = run
        self.idempotentCapacity = idempotentCapacity ?? min(capacity, RequestLedgerLimits.idempotentCapacity)
        self.memory = memory
        once = OnceTable(capacity: capacity)
    }

    /// Ids in both tables.
    package var count: Int { once.count + idempotent.entries.count }
    /// Non-idempotent ids: what fills up.
    package var nonIdempotentCount: Int { once.count }

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
        once.forget(now: now)
        if once.contains(id) { return .refuse(.alreadyRan) }
        guard isIdempotent else {
            // The id was an idempotent request's: ids are 128 random bits, so this is a confused peer.
            if idempotent.entries[id] != nil { return .refuse(.alreadyRan) }
            return once.insert(id, attempt: number) ? .run : .refuse(.busy)
        }
        forgetIdempotent(now: now)
        if let known = idempotent.entries[id] {
            guard number > known.attempt else { return .refuse(.stale) }
            idempotent.entries[id] = Entry(attempt: number, running: attempt)
            return known.running.map(Decision.replace) ?? .run
        }
        if idempotent.entries.count >= idempotentCapacity { makeRoom() }
        // Everything in it runs: this one goes unrecorded.
        guard idempotent.entries.count < idempotentCapacity else { return .run }
        idempotent.entries[id] = Entry(attempt: number, running: attempt)
        return .run
    }

    /// The attempt ended, however it did. An attempt that was replaced, or never recorded, changes nothing.
    package mutating func end(_ id: RequestID, attempt: UInt64, isIdempotent: Bool, now: NIODeadline) {
        guard isIdempotent else { return once.end(id, attempt: attempt, forgetAt: now + memory) }
        guard let entry = idempotent.entries[id], entry.attempt == attempt, entry.running != nil else { return }
        idempotent.entries[id] = Entry(attempt: attempt, running: nil)
        idempotent.ends.append(LedgerEnd(id: id, attempt: attempt, forgetAt: now + memory))
    }

    /// The attempt ended and the origin provably saw nothing of it: it may come again.
    package mutating func endUnstarted(_ id: RequestID, attempt: UInt64, isIdempotent: Bool) {
        guard isIdempotent else { return once.remove(id, attempt: attempt) }
        if idempotent.entries[id]?.attempt == attempt { idempotent.entries[id] = nil }
    }

    // MARK: Idempotent ids

    /// The memory is the same for all, so the ends stand in the order in which they are forgotten.
    private mutating func forgetIdempotent(now: NIODeadline) {
        while let end = idempotent.ends.first, end.forgetAt <= now {
            idempotent.ends.removeFirst()
            remove(end)
        }
    }

    private mutating func makeRoom() {
        while idempotent.entries.count >= idempotentCapacity, let end = idempotent.ends.popFirst() { remove(end) }
    }

    /// An id that a higher attempt took since is left alone.
    private mutating func remove(_ end: LedgerEnd) {
        guard let entry = idempotent.entries[end.id], entry.attempt == end.attempt, entry.running == nil else { return }
        idempotent.entries[end.id] = nil
    }
}

package enum RequestLedgerLimits {
    /// Non-idempotent ids: those of 60 s at 17,476 requests a second.
    package static let capacity = 1_048_576
    package static let idempotentCapacity = 65_536
}

/// An id that ended, in the order of the ends.
struct LedgerEnd: Sendable {
    var id: RequestID
    var attempt: UInt64
    var forgetAt: NIODeadline
}
