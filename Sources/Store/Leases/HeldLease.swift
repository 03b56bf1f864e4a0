package import NIOCore

/// A lease that was won. Its epoch is the fencing token: what is published under it carries the number.
///
/// Sans thread; belongs to one thread. The owner calls ``move(now:)`` every third of the time to live, and
/// ``check()`` before every act that the lease is for.
package final class HeldLease {
    private let volume: Volume
    private let lock: LeaseFolder
    package let timeToLive: TimeAmount
    private var record: LeaseRecord
    /// When the last movement that took effect was begun.
    private var movedAt: NIODeadline
    private var isLost = false

    init(volume: Volume, lock: LeaseFolder, record: LeaseRecord, timeToLive: TimeAmount, since: NIODeadline) {
        self.volume = volume
        self.lock = lock
        self.record = record
        self.timeToLive = timeToLive
        self.movedAt = since
    }

    package var epoch: UInt64 { record.epoch }

    /// False as soon as others may take it: nothing may be done under it any more.
    package func isHeld(now: NIODeadline) -> Bool {
        !isLost && now - movedAt < timeToLive
    }

    /// From then on others may take it, unless it moves before.
    package var end: NIODeadline { movedAt + timeToLive }

    /// When the owner has to call ``move(now:)`` next.
    package var nextMove: NIODeadline { movedAt + timeToLive.third }

    /// Shows that the holder is alive.
    ///
    /// - Throws: `fenced` when it has been lost for good; anything else may be tried again while ``isHeld(now:)``.
    package func move(now: NIODeadline) throws(StoreError) {
        try write(isReleased: false, now: now)
    }

    /// Gives it back: whoever waits need not wait for the time to live.
    package func release(now: NIODeadline) throws(StoreError) {
        defer { isLost = true }
        try write(isReleased: true, now: now)
    }

    /// Whether this epoch is on top, past every cache. To be called before every act under the lease.
    ///
    /// - Throws: `fenced` when it is not.
    package func check() throws(StoreError) {
        guard isHeld(now: volume.now()) else { throw lost("it was not renewed in time") }
        let (epochs, floor) = try lock.epochs()
        guard let top = epochs.last, top == epoch, floor <= epoch else {
            throw lost("epoch \(max(epochs.last ?? 0, floor)) has taken it over")
        }
        guard let found = try lock.record(epoch), found.record.holder == record.holder else {
            throw lost("its file is not ours any more")
        }
    }

    private func write(isReleased: Bool, now: NIODeadline) throws(StoreError) {
        guard isHeld(now: now) else { throw lost("it was not renewed in time") }
        let path = lock.path(of: epoch)
        let file: any OpenFile
        do {
            file = try volume.files.open(path, .update)
        } catch {
            guard error.kind == .missing else { throw volume.counted(error) }
            // The name may be missing in a cache only.
            let (epochs, _) = try lock.epochs()
            guard epochs.contains(epoch) else { throw lost("its file was deleted") }
            throw volume.counted(error)
        }
        let bytes = try volume.contents(of: file, path, limit: LeaseRecord.fileSize).bytes
        let slot: UInt64
        if let found = LeaseRecord.newest(in: bytes) {
            guard found.record.holder == record.holder, found.record.epoch == epoch else {
                throw lost("its file is not ours any more")
            }
            slot = found.freeSlot
        } else {
            slot = 0
        }
        // The counter of a movement that failed may be on the disk: it is not used again.
        record.counter += 1
        record.isReleased = isReleased
        let moved = record.encoded()
        // Others have to see it; that it survives a crash is of no use to anybody, so a failed fdatasync only costs time.
        try volume.call { () throws(FileFault) in
            try volume.writeAll(moved[...], to: file, at: slot * LeaseRecord.stride, path)
            try file.syncData()
        }
        movedAt = now
    }

    private func lost(_ reason: String) -> StoreError {
        isLost = true
        return StoreError(.fenced, volume.shown(lock.path), "the lease of epoch \(epoch) was lost: \(reason)")
    }
}
