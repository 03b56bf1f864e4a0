import DequeModule
import HopProtocol
import NIOCore

/// The ids of non-idempotent requests: while they run and for a while after. None is ever evicted.
///
/// It can be large, and it is used under a lock that all loops take, so no single call may do much: the ids are spread
/// over dictionaries that grow one by one, the ends lie in chunks that are never moved, and a call forgets a limited
/// number. What is forgotten late is refused for longer, which is the harmless direction.
struct OnceTable: Sendable {
    /// Of one call: half a millisecond when nothing of it is in a cache.
    static let forgottenAtOnce = 512

    private static let parts = 64
    private static let chunk = 1_024
    /// A table that was larger than this gives its memory back when it is empty.
    private static let keptPart = 1_024

    private struct State {
        /// The highest bit: it ended. Attempts are counted from one.
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
    /// The first chunk is read from ``firstEnd`` on.
    private var ends = Deque<[LedgerEnd]>()
    private var firstEnd = 0

    init(capacity: Int) { self.capacity = capacity }

    private static func part(of id: RequestID) -> Int { Int(truncatingIfNeeded: id.rawValue) & (parts - 1) }

    func contains(_ id: RequestID) -> Bool { states[Self.part(of: id)][id] != nil }

    /// An id that is not in it. False: the table is full.
    mutating func insert(_ id: RequestID, attempt: UInt64) -> Bool {
        guard count < capacity else { return false }
        states[Self.part(of: id)][id] = State(attempt: attempt)
        count += 1
        return true
    }

    mutating func end(_ id: RequestID, attempt: UInt64, forgetAt: NIODeadline) {
        let part = Self.part(of: id)
        guard var state = states[part][id], state.isAttempt(attempt), !state.hasEnded else { return }
        state.end()
        states[part][id] = state
        if ends.last.map({ $0.count == Self.chunk }) ?? true {
            var chunk: [LedgerEnd] = []
            // The first one grows like any array: an agent with few requests needs no whole chunk.
            if !ends.isEmpty { chunk.reserveCapacity(Self.chunk) }
            ends.append(chunk)
        }
        ends[ends.count - 1].append(LedgerEnd(id: id, attempt: attempt, forgetAt: forgetAt))
    }

    /// While it runs.
    mutating func remove(_ id: RequestID, attempt: UInt64) {
        let part = Self.part(of: id)
        guard let state = states[part][id], state.isAttempt(attempt), !state.hasEnded else { return }
        states[part][id] = nil
        count -= 1
    }

    /// The memory is the same for all, so the ends stand in the order in which they are forgotten.
    mutating func forget(now: NIODeadline) {
        guard !ends.isEmpty, ends[0][firstEnd].forgetAt <= now else { return }
        for _ in 0..<Self.forgottenAtOnce {
            let end = ends[0][firstEnd]
            guard end.forgetAt <= now else { return }
            states[Self.part(of: end.id)][end.id] = nil
            count -= 1
            firstEnd += 1
            guard firstEnd == ends[0].count else { continue }
            ends.removeFirst()
            firstEnd = 0
            guard ends.isEmpty else { continue }
            if count == 0, states[0].capacity > Self.keptPart {
                states = [[RequestID: State]](repeating: [:], count: Self.parts)
            }
            return
        }
    }
}
