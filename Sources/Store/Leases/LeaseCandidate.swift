package import NIOCore

/// One process that wants a lease: epochs are files made by link(2), a waiter judges the holder by its own monotonic
/// clock, and nothing is ever deleted to unlock.
///
/// Sans thread: its owner calls ``poll(now:)`` when it says so, and ``take(_:)`` when it says so. Belongs to one thread.
package final class LeaseCandidate {
    package enum Step: Equatable, Sendable {
        /// Somebody else holds it; look again then.
        case wait(until: NIODeadline)
        /// Nobody does, or not any more: make this epoch.
        case take(epoch: UInt64)
    }

    private struct Sight: Equatable {
        var epoch: UInt64
        /// Nil: neither slot can be read. That does not move either.
        var record: LeaseRecord?
    }

    private let volume: Volume
    private let lock: LeaseFolder
    private let holder: Incarnation
    private let timeToLive: TimeAmount
    /// What was seen last, and since when it has not moved: the time after the first reading of it.
    private var sight: Sight?
    private var since = NIODeadline.uptimeNanoseconds(0)

    /// - Parameters:
    ///   - name: `locks/<name>`.
    ///   - fencing: a key whose generations are published under this lease: their epochs count too, so that a lost
    ///     folder of locks cannot bring an old epoch back.
    ///   - timeToLive: without movement for so long a holder is taken for dead.
    package init(volume: Volume, name: StoreKey, fencing: StoreKey?, timeToLive: TimeAmount) {
        self.volume = volume
        self.lock = LeaseFolder(volume: volume, name: name, fencing: fencing)
        self.timeToLive = timeToLive
        self.holder = Incarnation(high: volume.random(), low: volume.random())
    }

    /// Looks at the newest epoch. What cannot be read right now is no evidence, for or against.
    package func poll(now began: NIODeadline) throws(StoreError) -> Step {
        let (epochs, floor) = try lock.epochs()
        guard let top = epochs.last, top >= floor else {
            sight = nil
            return .take(epoch: max(epochs.last ?? 0, floor) + 1)
        }
        let seen = Sight(epoch: top, record: try lock.record(top)?.record)
        if seen.record?.isReleased == true { return .take(epoch: top + 1) }
        guard seen == sight else {
            sight = seen
            since = volume.now()
            return .wait(until: since + timeToLive.third)
        }
        // Unmoved from after the first look until before this one.
        if began - since >= timeToLive { return .take(epoch: top + 1) }
        return .wait(until: min(volume.now() + timeToLive.third, since + timeToLive))
    }

    /// Makes the epoch. Nil: somebody else made it, or a newer one; poll again.
    package func take(_ epoch: UInt64) throws(StoreError) -> HeldLease? {
        let began = volume.now()
        let record = LeaseRecord(epoch: epoch, holder: holder, counter: 1, isReleased: false)
        try volume.ensureFolder(lock.path)
        guard try volume.create(lock.path(of: epoch), record.file(), .content) else { return nil }
        // A process that was stopped between looking and linking may have made a number that had been deleted.
        let (epochs, floor) = try lock.epochs()
        guard epochs.last == epoch, floor < epoch else { return nil }
        lock.deleteOld(epochs)
        return HeldLease(volume: volume, lock: lock, record: record, timeToLive: timeToLive, since: began)
    }
}
