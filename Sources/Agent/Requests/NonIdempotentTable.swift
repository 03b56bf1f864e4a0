import DequeModule
import HopProtocol
import NIOCore

/// The ids of non-idempotent requests, while they run and for a retention time afterwards. No id is ever evicted.
///
/// The table can be large and is used under a lock that all event loops contend for, so no single call may take long:
/// the ids are spread over dictionaries that grow one by one, the ended attempts lie in chunks that are never moved,
/// and a call expires a limited number of them. An id that expires late is refused for longer, which is harmless.
struct NonIdempotentTable: Sendable {
    /// The number of ids that one call expires at most: half a millisecond if none of them is in a CPU cache.
    static let expiryBatch = 512

    private static let parts = 64
    private static let chunk = 1_024
    /// The capacity of a part up to which an empty table keeps its memory.
    private static let keptPart = 1_024

    /// The number of the attempt that has the id, and whether it has ended, in one word.
    private struct State {
        /// The attempt, which is counted from one, and ``ended`` in the highest bit.
        private var bits: UInt64
        init(attempt: UInt64) { bits = attempt & ~Self.ended }
        private static let ended: UInt64 = 1 << 63
        var hasEnded: Bool { bits & Self.ended != 0 }
        func isAttempt(_ attempt: UInt64) -> Bool { bits & ~Self.ended == attempt & ~Self.ended }
        mutating func end() { bits |= Self.ended }
    }

    let capacity: Int
    private(set) var count = 0
    private var states = [[RequestID: State]](repeating: [:], count: parts)
    /// The ended attempts in chunks, in the order of their expiry. The first chunk is valid from ``firstEnded`` on.
    private var ended = Deque<[EndedAttempt]>()
    private var firstEnded = 0

    init(capacity: Int) { self.capacity = capacity }

    private static func part(of id: RequestID) -> Int { Int(truncatingIfNeeded: id.rawValue) & (parts - 1) }

    func contains(_ id: RequestID) -> Bool { states[Self.part(of: id)][id] != nil }

    /// Inserts an id that the table does not contain.
    ///
    /// - Returns: `false` if the table is full.
    mutating func insert(_ id: RequestID, attempt: UInt64) -> Bool {
        guard count < capacity else { return false }
        states[Self.part(of: id)][id] = State(attempt: attempt)
        count += 1
        return true
    }

    /// Marks a running attempt as ended. Its id expires at `expiresAt`.
    mutating func end(_ id: RequestID, attempt: UInt64, expiresAt: NIODeadline) {
        let part = Self.part(of: id)
        guard var state = states[part][id], state.isAttempt(attempt), !state.hasEnded else { return }
        state.end()
        states[part][id] = state
        if ended.last.map({ $0.count == Self.chunk }) ?? true {
            var chunk: [EndedAttempt] = []
            // The first chunk grows like any array: an agent with few requests does not need a whole one.
            if !ended.isEmpty { chunk.reserveCapacity(Self.chunk) }
            ended.append(chunk)
        }
        ended[ended.count - 1].append(EndedAttempt(id: id, attempt: attempt, expiresAt: expiresAt))
    }

    /// Removes the id of a running attempt.
    mutating func remove(_ id: RequestID, attempt: UInt64) {
        let part = Self.part(of: id)
        guard let state = states[part][id], state.isAttempt(attempt), !state.hasEnded else { return }
        states[part][id] = nil
        count -= 1
    }

    /// Removes up to ``expiryBatch`` ids that have expired. All ids have the same retention time, so the ended attempts
    /// are in the order of their expiry.
    mutating func expire(now: NIODeadline) {
        guard !ended.isEmpty, ended[0][firstEnded].expiresAt <= now else { return }
        for _ in 0..<Self.expiryBatch {
            let attempt = ended[0][firstEnded]
            guard attempt.expiresAt <= now else { return }
            states[Self.part(of: attempt.id)][attempt.id] = nil
            count -= 1
            firstEnded += 1
            guard firstEnded == ended[0].count else { continue }
            ended.removeFirst()
            firstEnded = 0
            guard ended.isEmpty else { continue }
            if count == 0, states[0].capacity > Self.keptPart {
                states = [[RequestID: State]](repeating: [:], count: Self.parts)
            }
            return
        }
    }
}
