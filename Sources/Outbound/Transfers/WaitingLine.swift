internal import NIOCore

/// Requests that wait for their turn, in the order of their arrival.
struct WaitingLine {
    /// What happens next to those who wait.
    struct Turn {
        var starting: [PendingTransfer] = []
        /// Their time is over.
        var dropped: [PendingTransfer] = []
        /// When the first of those who stay has waited for too long.
        var deadline: NIODeadline?
    }

    private var exchanges: [PendingTransfer] = []

    var count: Int { exchanges.count }

    mutating func append(_ exchange: PendingTransfer) {
        exchanges.append(exchange)
    }

    /// False: it is not here.
    mutating func remove(_ exchange: PendingTransfer) -> Bool {
        guard let index = exchanges.firstIndex(where: { $0 === exchange }) else { return false }
        exchanges.remove(at: index)
        return true
    }

    mutating func removeAll() -> [PendingTransfer] {
        defer { exchanges = [] }
        return exchanges
    }

    /// Takes out who may start now: the first of each origin that has room, within the room of all.
    ///
    /// - Parameter active: the origin of each transfer under way.
    mutating func next(active: [String], limits: OutboundLimits, now: NIODeadline) -> Turn {
        var turn = Turn()
        var room = limits.active - active.count
        var perOrigin: [String: Int] = [:]
        for origin in active { perOrigin[origin, default: 0] += 1 }
        exchanges = exchanges.filter { exchange in
            if exchange.deadline <= now {
                turn.dropped.append(exchange)
                return false
            }
            let origin = exchange.request.url.origin
            if room > 0, perOrigin[origin, default: 0] < limits.activePerOrigin {
                room -= 1
                perOrigin[origin, default: 0] += 1
                turn.starting.append(exchange)
                return false
            }
            turn.deadline = min(turn.deadline ?? exchange.deadline, exchange.deadline)
            return true
        }
        return turn
    }
}
