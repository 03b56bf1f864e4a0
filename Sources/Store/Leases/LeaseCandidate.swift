package import NIOCore

/// A process that waits for a lease.
///
/// Epochs are files created by link(2). The candidate judges the holder by its own monotonic clock: a holder whose file
/// did not change for the time to live, the holder's or its own, whichever is longer, is considered dead. Nothing is
/// deleted to unlock; a holder that has removed the guarded keys deletes the folder of the lease after its release.
///
/// An earlier holder that was considered dead may wake up between its check and its write. After the new holder has
/// written each guarded key once, such a write finds the next version taken, and then its epoch outdated.
///
/// The owner calls ``poll(now:)`` until it returns ``Step/acquire(epoch:)``, each time not before the returned
/// deadline, and then ``acquire(_:)``. Confined to one thread at a time; creates no threads and no timers.
package final class LeaseCandidate {
    /// The next action of the owner.
    package enum Step: Equatable, Sendable {
        /// The lease is held by another process, whose name is known unless its file is damaged; poll again at the
        /// deadline.
        case wait(until: NIODeadline, holder: String?)
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
    private let options: LeaseOptions
    private let holder: Incarnation
    private let name: String
    /// The last observation, and the time after it was first made; it has not changed since.
    private var observation: Observation?
    private var since = NIODeadline.uptimeNanoseconds(0)
    /// Whether an earlier holder may be alive and believe that it holds the lease, because it did not release it.
    private var hasUnreleasedHolder = false

    /// - Parameters:
    ///   - lease: The lease, `locks/<lease>`.
    ///   - name: The name of this process for people.
    package init(volume: Volume, lease: StoreKey, options: LeaseOptions, name: String) {
        self.volume = volume
        lock = LeaseFolder(volume: volume, name: lease)
        self.options = options
        self.name = name
        holder = Incarnation(high: volume.random(), low: volume.random())
    }

    /// Reads the newest epoch. A file that cannot be read right now is no evidence that the holder is dead or alive.
    package func poll(now began: NIODeadline) throws(StoreError) -> Step {
        guard let top = try lock.epochs().last else {
            observation = nil
            let floor = try floor()
            // The folder of the lease was lost, or there never was one.
            hasUnreleasedHolder = floor > 0
            return .acquire(epoch: try nextEpoch(after: floor))
        }
        let seen: Observation
        do throws(StoreError) {
            seen = Observation(epoch: top, record: try lock.record(top)?.record)
        } catch {
            guard error.code == .notFound else { throw error }
            // The holder has deleted the folder since it was listed.
            observation = nil
            return .wait(until: volume.now(), holder: nil)
        }
        if seen.record?.isReleased == true {
            hasUnreleasedHolder = false
            return .acquire(epoch: try nextEpoch(after: top))
        }
        // The holder renews by its own time to live, which may be the longer one.
        let timeToLive = max(options.timeToLive, seen.record?.timeToLive ?? .zero)
        let holder = seen.record?.name
        guard seen == observation else {
            observation = seen
            since = volume.now()
            return .wait(until: since + options.pollInterval, holder: holder)
        }
        // Unchanged from after the first observation until before this one.
        if began - since >= timeToLive {
            hasUnreleasedHolder = true
            return .acquire(epoch: try nextEpoch(after: top))
        }
        return .wait(until: min(volume.now() + options.pollInterval, since + timeToLive), holder: holder)
    }

    private func nextEpoch(after top: UInt64) throws(StoreError) -> UInt64 {
        let last = max(top, try floor(), options.notBelow)
        return try StoreNumber.next(after: last, in: volume.displayPath(lock.path(of: last)))
    }

    /// The highest epoch that has written a guarded key, so that a lost folder of locks cannot bring an old epoch back.
    private func floor() throws(StoreError) -> UInt64 {
        var highest: UInt64 = 0
        for key in options.guards { highest = max(highest, try volume.epoch(of: key)) }
        return highest
    }

    /// Creates the epoch's file, and writes the guarded keys again if an earlier holder did not release the lease.
    /// Returns `nil` if another process created this epoch or a newer one; the owner polls again.
    package func acquire(_ epoch: UInt64) throws(StoreError) -> HeldLease? {
        let began = volume.now()
        let record = LeaseRecord(
            epoch: epoch,
            holder: holder,
            name: name,
            timeToLive: options.timeToLive,
            counter: 1,
            isReleased: false
        )
        try volume.ensureFolder(lock.path)
        do throws(StoreError) {
            guard try volume.create(lock.path(of: epoch), record.file()) else { return nil }
        } catch {
            // The last holder has deleted the folder since.
            guard error.code != .notFound else { return nil }
            throw error
        }
        // A process that was stopped between poll and link may have created a number that had been deleted.
        let epochs = try lock.epochs()
        guard epochs.last == epoch else { return nil }
        guard try floor() < epoch else {
            try? volume.files.unlink(lock.path(of: epoch))
            return nil
        }
        lock.deleteOld(epochs)
        if hasUnreleasedHolder {
            for key in options.guards { try volume.raise(key, to: epoch) }
        }
        return HeldLease(volume: volume, lock: lock, guards: options.guards, record: record, since: began)
    }
}
