import NIOCore

/// The requests that wait for a free transfer, in the order of their arrival. A plain value; ``TransferThread`` guards
/// it with its lock.
struct TransferQueue {
    /// The transfers that leave the queue, and the deadline of those that stay.
    struct Turn {
        var starting: [PendingTransfer] = []
        /// The transfers whose deadline has passed.
        var expired: [PendingTransfer] = []
        /// The earliest deadline of the transfers that stay, or `nil` if the queue is empty.
        var deadline: NIODeadline?
    }

    private var queued: [PendingTransfer] = []

    var count: Int { queued.count }

    mutating func append(_ pending: PendingTransfer) {
        queued.append(pending)
    }

    /// Removes a transfer.
    ///
    /// - Returns: `false` if it is not in the queue.
    mutating func remove(_ pending: PendingTransfer) -> Bool {
        guard let index = queued.firstIndex(where: { $0 === pending }) else { return false }
        queued.remove(at: index)
        return true
    }

    mutating func removeAll() -> [PendingTransfer] {
        defer { queued = [] }
        return queued
    }

    /// Removes the transfers that may start now, oldest first, as far as the limits in total and per origin allow, and
    /// those that have expired.
    ///
    /// - Parameter active: The origin of each active transfer.
    mutating func next(active: [String], limits: OutboundLimits, now: NIODeadline) -> Turn {
        var turn = Turn()
        var room = limits.active - active.count
        var perOrigin: [String: Int] = [:]
        for origin in active { perOrigin[origin, default: 0] += 1 }
        queued = queued.filter { pending in
            if pending.deadline <= now {
                turn.expired.append(pending)
                return false
            }
            let origin = pending.request.url.origin
            if room > 0, perOrigin[origin, default: 0] < limits.activePerOrigin {
                room -= 1
                perOrigin[origin, default: 0] += 1
                turn.starting.append(pending)
                return false
            }
            turn.deadline = min(turn.deadline ?? pending.deadline, pending.deadline)
            return true
        }
        return turn
    }
}
