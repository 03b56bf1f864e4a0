import DequeModule
package import HopProtocol
package import NIOCore

/// The requests that this run of the agent remembers, so that a non-idempotent one runs at most once.
///
/// A value without I/O: its owner guards it with a lock, passes the time, and acts on its decisions outside the lock.
/// `Attempt` identifies a running attempt to the owner, so that a later attempt can end it.
///
/// Non-idempotent ids are never evicted: they stay until 60 s after their end, and when the table is full new ones are
/// refused. Its size bounds the rate that an agent sustains: 1,048,576 ids are 17,476 such requests a second. An id
/// costs 81 bytes in a full table, which occupies 81 MiB; the table grows with its contents, and returns its memory
/// when it is empty. Idempotent ids have a table of their own, in which the attempt that ended first is evicted when it
/// is full: running such a request again does no harm, and reads must not exhaust the table that guards writes.
package struct RequestLedger<Attempt: Sendable>: Sendable {
    package enum Decision: Sendable {
        /// The attempt was recorded: call the origin.
        case run
        /// The attempt was recorded in place of an older one that still runs: end that one, then call the origin.
        case replace(Attempt)
        /// The attempt was not recorded: reset the stream with this code.
        case refuse(HopCode)
    }

    private struct Entry {
        var attempt: UInt64
        /// The running attempt, or `nil` if it has ended.
        var running: Attempt?
    }

    private struct Table {
        var entries: [RequestID: Entry] = [:]
        /// The ended attempts in the order of their expiry.
        var ended = Deque<EndedAttempt>()
    }

    private let run: RunID
    private let idempotentCapacity: Int
    private let retention: TimeAmount
    private var nonIdempotent: NonIdempotentTable
    private var idempotent = Table()

    /// Creates an empty ledger.
    ///
    /// - Parameters:
    ///   - run: The run of this process. Requests for another one are refused.
    ///   - capacity: The number of non-idempotent ids.
    ///   - idempotentCapacity: The number of idempotent ids; by default `capacity`, but at most 65,536, since more
    ///     would cost memory and gain nothing.
    ///   - retention: The time for which an id is kept after its end.
    package init(
        run: RunID,
        capacity: Int = RequestLedgerLimits.capacity,
        idempotentCapacity: Int? = nil,
        retention: TimeAmount = .seconds(60)
    ) {
        self.run = run
        self.idempotentCapacity = idempotentCapacity ?? min(capacity, RequestLedgerLimits.idempotentCapacity)
        self.retention = retention
        nonIdempotent = NonIdempotentTable(capacity: capacity)
    }

    /// The number of ids in both tables.
    package var count: Int { nonIdempotent.count + idempotent.entries.count }
    /// The number of non-idempotent ids, which is limited by the capacity.
    package var nonIdempotentCount: Int { nonIdempotent.count }

    /// Decides whether an attempt of a request may run, and records it if so.
    ///
    /// - Parameters:
    ///   - number: The number of the attempt, counted from one.
    ///   - run: The run that the request is meant for.
    ///   - attempt: A reference to the attempt, which ``Decision/replace(_:)`` returns later.
    package mutating func begin(
        _ id: RequestID,
        attempt number: UInt64,
        run: RunID,
        isIdempotent: Bool,
        now: NIODeadline,
        attempt: Attempt
    ) -> Decision {
        guard run == self.run else { return .refuse(.wrongRun) }
        // Checked for every method: an id that ran without being idempotent never runs again.
        nonIdempotent.expire(now: now)
        if nonIdempotent.contains(id) { return .refuse(.alreadyRan) }
        guard isIdempotent else {
            // The id was an idempotent request's: ids are 128 random bits, so the peer is confused.
            if idempotent.entries[id] != nil { return .refuse(.alreadyRan) }
            return nonIdempotent.insert(id, attempt: number) ? .run : .refuse(.busy)
        }
        expireIdempotent(now: now)
        if let known = idempotent.entries[id] {
            guard number > known.attempt else { return .refuse(.stale) }
            idempotent.entries[id] = Entry(attempt: number, running: attempt)
            return known.running.map(Decision.replace) ?? .run
        }
        if idempotent.entries.count >= idempotentCapacity { evictEnded() }
        // If all recorded attempts are running, this one runs unrecorded.
        guard idempotent.entries.count < idempotentCapacity else { return .run }
        idempotent.entries[id] = Entry(attempt: number, running: attempt)
        return .run
    }

    /// Records that an attempt has ended, with or without success. Has no effect for an attempt that was replaced or
    /// never recorded.
    package mutating func end(_ id: RequestID, attempt: UInt64, isIdempotent: Bool, now: NIODeadline) {
        guard isIdempotent else { return nonIdempotent.end(id, attempt: attempt, expiresAt: now + retention) }
        guard let entry = idempotent.entries[id], entry.attempt == attempt, entry.running != nil else { return }
        idempotent.entries[id] = Entry(attempt: attempt, running: nil)
        idempotent.ended.append(EndedAttempt(id: id, attempt: attempt, expiresAt: now + retention))
    }

    /// Removes an attempt of which the origin has provably seen nothing: the request may be sent again.
    package mutating func endUnstarted(_ id: RequestID, attempt: UInt64, isIdempotent: Bool) {
        guard isIdempotent else { return nonIdempotent.remove(id, attempt: attempt) }
        if idempotent.entries[id]?.attempt == attempt { idempotent.entries[id] = nil }
    }

    // MARK: Idempotent ids

    /// All ids have the same retention time, so the ended attempts are in the order of their expiry.
    private mutating func expireIdempotent(now: NIODeadline) {
        while let attempt = idempotent.ended.first, attempt.expiresAt <= now {
            idempotent.ended.removeFirst()
            remove(attempt)
        }
    }

    private mutating func evictEnded() {
        while idempotent.entries.count >= idempotentCapacity, let attempt = idempotent.ended.popFirst() {
            remove(attempt)
        }
    }

    /// Removes an ended attempt, unless a higher attempt has replaced it since.
    private mutating func remove(_ ended: EndedAttempt) {
        guard let entry = idempotent.entries[ended.id], entry.attempt == ended.attempt, entry.running == nil
        else { return }
        idempotent.entries[ended.id] = nil
    }
}

/// The default capacities of a ``RequestLedger``.
package enum RequestLedgerLimits {
    /// The number of non-idempotent ids: 60 s at 17,476 requests a second.
    package static let capacity = 1_048_576
    /// The number of idempotent ids.
    package static let idempotentCapacity = 65_536
}

/// An attempt that has ended and whose id is still remembered.
struct EndedAttempt: Sendable {
    var id: RequestID
    var attempt: UInt64
    /// The time at which the id is forgotten.
    var expiresAt: NIODeadline
}
