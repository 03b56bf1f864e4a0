package import NIOCore

/// A process that waits for a lease.
///
/// Epochs are files created by link(2). The candidate judges the holder by its own monotonic clock: a holder whose file
/// did not change for the time to live is considered dead. Nothing is deleted to unlock.
///
/// The owner calls ``poll(now:)`` until it returns ``Step/acquire(epoch:)``, each time not before the returned
/// deadline, and then ``acquire(_:)``. Confined to one thread at a time; creates no threads and no timers.
package final class LeaseCandidate {
    /// The next action of the owner.
    package enum Step: Equatable, Sendable {
        /// The lease is held by another process; poll again at the deadline.
        case wait(until: NIODeadline)
        /// The lease is free or its holder is dead; call ``LeaseCandidate/acquire(_:)`` with this epoch.
        case acquire(epoch: UInt64)
    }

    /// The newest epoch and its record.
    private struct Observation: Equatable {
        var epoch: UInt64
        /// The record, or `nil` if neither slot can be read. An unreadable record counts as unchanged.
        var record: LeaseRecord?
    }

    private let volume: Volume
    private let lock: LeaseFolder
    private let holder: Incarnation
    private let timeToLive: TimeAmount
    /// The last observation, and the time after it was first made; it has not changed since.
    private var observation: Observation?
    private var since = NIODeadline.uptimeNanoseconds(0)

    /// - Parameters:
    ///   - name: The lease, `locks/<name>`.
    ///   - fencing: A key whose generations are published under this lease, or `nil`. Their epochs count too, so that a
    ///     lost folder of locks cannot bring an old epoch back.
    ///   - timeToLive: The time without a renewal after which a holder is considered dead.
    package init(volume: Volume, name: StoreKey, fencing: StoreKey?, timeToLive: TimeAmount) {
        self.volume = volume
        lock = LeaseFolder(volume: volume, name: name, fencing: fencing)
        self.timeToLive = timeToLive
        holder = Incarnation(high: volume.random(), low: volume.random())
    }

    /// Reads the newest epoch. A file that cannot be read right now is no evidence that the holder is dead or alive.
    package func poll(now began: NIODeadline) throws(StoreError) -> Step {
        let (epochs, floor) = try lock.epochs()
        guard let top = epochs.last, top >= floor else {
            observation = nil
            return .acquire(epoch: max(epochs.last ?? 0, floor) + 1)
        }
        let seen = Observation(epoch: top, record: try lock.record(top)?.record)
        if seen.record?.isReleased == true { return .acquire(epoch: top + 1) }
        guard seen == observation else {
            observation = seen
            since = volume.now()
            return .wait(until: since + timeToLive.third)
        }
        // Unchanged from after the first observation until before this one.
        if began - since >= timeToLive { return .acquire(epoch: top + 1) }
        return .wait(until: min(volume.now() + timeToLive.third, since + timeToLive))
    }

    /// Creates the epoch's file. Returns `nil` if another process created it or a newer one; the owner polls again.
    package func acquire(_ epoch: UInt64) throws(StoreError) -> HeldLease? {
        let began = volume.now()
        let record = LeaseRecord(epoch: epoch, holder: holder, counter: 1, isReleased: false)
        try volume.ensureFolder(lock.path)
        guard try volume.create(lock.path(of: epoch), record.file()) else { return nil }
        // A process that was stopped between poll and link may have created a number that had been deleted.
        let (epochs, floor) = try lock.epochs()
        guard epochs.last == epoch, floor < epoch else { return nil }
        lock.deleteOld(epochs)
        return HeldLease(volume: volume, lock: lock, record: record, timeToLive: timeToLive, since: began)
    }
}
