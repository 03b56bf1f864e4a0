package import NIOCore

/// A lease that was acquired. Its epoch is the fencing token: everything published under the lease carries it.
///
/// The owner calls ``renew(now:)`` at ``nextRenewal``, every third of the time to live, and ``check()`` before every
/// action under the lease. A waiting process may acquire the lease once it has not been renewed for the time to live,
/// on the waiter's clock; ``release(now:)`` saves it the wait. Confined to one thread; creates no threads and no
/// timers.
package final class HeldLease {
    private let volume: Volume
    private let lock: LeaseFolder
    private let guards: [StoreKey]
    private var record: LeaseRecord
    /// The start time of the last successful renewal.
    private var renewedAt: NIODeadline
    private var isLost = false

    init(volume: Volume, lock: LeaseFolder, guards: [StoreKey], record: LeaseRecord, since: NIODeadline) {
        self.volume = volume
        self.lock = lock
        self.guards = guards
        self.record = record
        renewedAt = since
    }

    package var epoch: UInt64 { record.epoch }
    /// The folder, for messages.
    var place: String { volume.displayPath(lock.path) }
    package var timeToLive: TimeAmount { record.timeToLive }

    /// Whether the lease is held. Once `false`, others may acquire the lease and nothing may be done under it.
    package func isHeld(now: NIODeadline) -> Bool {
        !isLost && now - renewedAt < timeToLive
    }

    /// The time from which others may acquire the lease, unless it is renewed before.
    package var expiry: NIODeadline { renewedAt + timeToLive }

    /// The time at which the owner has to call ``renew(now:)`` next.
    package var nextRenewal: NIODeadline { renewedAt + timeToLive.third }

    /// Shows the other processes that the holder is alive.
    ///
    /// - Throws: `fenced` if the lease is lost for good; after any other error the call may be repeated while
    ///   ``isHeld(now:)``.
    package func renew(now: NIODeadline) throws(StoreError) {
        try write(isReleased: false, now: now)
    }

    /// Releases the lease, so that a waiting process need not wait for the time to live. If the holder has removed what
    /// the lease guards, the folder of the lease is deleted, so that names that come and go leave nothing behind.
    package func release(now: NIODeadline) throws(StoreError) {
        defer { isLost = true }
        try write(isReleased: true, now: now)
        var newest: UInt64 = 0
        for key in guards {
            guard let found = try volume.newest(key, fresh: true) else { continue }
            let path = volume.displayPath(VersionName.path(of: found.version, key: key))
            let file = try VersionFile(found.file, place: path)
            guard file.isRemoved else { return }
            newest = max(newest, file.epoch)
        }
        // The epoch of the next holder follows from a removed key.
        if newest == epoch { lock.delete(upTo: epoch) }
    }

    /// Verifies that this epoch is the newest, bypassing every cache. Called before every action under the lease. A
    /// file that another process has put in the place of the own one, after the folder was lost, is detected by the
    /// next renewal or write.
    ///
    /// - Throws: `fenced` if it is not.
    package func check() throws(StoreError) {
        guard isHeld(now: volume.now()) else { throw lost("it was not renewed in time") }
        let top = try lock.epochs().last ?? 0
        guard top == epoch else {
            guard top > epoch else { throw lost("its file was deleted") }
            let name = (try? lock.record(top)?.record.name).map { ", \($0)," } ?? ""
            throw lost("another process\(name) has acquired it, as epoch \(top)")
        }
    }

    /// Changes a value under the lease.
    ///
    /// - Throws: `fenced` if the lease is lost, and the errors of ``Volume/write(_:_:epoch:)``.
    package func write(_ key: StoreKey, _ change: ValueWrite) throws(StoreError) -> UInt64 {
        try check()
        let found: LeaseRecord?
        do throws(StoreError) {
            found = try lock.record(epoch)?.record
        } catch {
            throw error.code == .notFound ? lost("its file was deleted") : error
        }
        guard found?.holder == record.holder else { throw lost("its file was replaced by another process") }
        do {
            return try volume.write(key, change, epoch: epoch)
        } catch {
            if error.code == .fenced { isLost = true }
            throw error
        }
    }

    private func write(isReleased: Bool, now: NIODeadline) throws(StoreError) {
        guard isHeld(now: now) else { throw lost("it was not renewed in time") }
        let path = lock.path(of: epoch)
        let file: any OpenFile
        do {
            file = try volume.files.open(path, .update)
        } catch {
            guard error.kind == .missing else { throw volume.storeError(for: error) }
            // The name may be missing in a cache only.
            guard try lock.epochs().contains(epoch) else { throw lost("its file was deleted") }
            throw volume.storeError(for: error)
        }
        let bytes = try volume.contents(of: file, path, limit: LeaseRecord.fileSize).bytes
        let slot: UInt64
        if let found = LeaseRecord.newest(in: bytes) {
            guard found.record.holder == record.holder, found.record.epoch == epoch else {
                throw lost("its file was replaced by another process")
            }
            slot = found.freeSlot
        } else {
            slot = 0
        }
        // The counter of a renewal that failed may be on the disk, so it is not used again.
        record.counter += 1
        record.isReleased = isReleased
        let moved = record.encoded()
        // Others have to see the renewal; it need not survive a crash, so a failed fdatasync only costs time.
        try volume.call { () throws(FileFault) in
            try volume.writeAll(moved[...], to: file, at: slot * LeaseRecord.stride, path)
            try file.syncData()
        }
        renewedAt = now
    }

    private func lost(_ reason: String) -> StoreError {
        isLost = true
        return StoreError(.fenced, volume.displayPath(lock.path), "the lease of epoch \(epoch) was lost: \(reason)")
    }
}

extension TimeAmount {
    /// A third of a time to live: the interval at which a holder renews.
    var third: TimeAmount { .nanoseconds(nanoseconds / 3) }
}
