package import NIOCore
import Synchronization
import Threads

/// The periodic work that the timer thread starts. The timers hold the store weakly, so it ends when its owner releases
/// it.
extension VolumeStore {
    /// The time between two probes for free space on a healthy volume.
    private static let betweenSpaceProbes = TimeAmount.seconds(4)
    /// The time between two slices of a sweep.
    private static let betweenSlices = TimeAmount.seconds(1)

    /// Adds readers when the existing ones hang, starts threads that could not be started before, and probes for free
    /// space.
    func scheduleUpkeep() {
        let timers = timers
        timers.schedule(at: .now() + TimeAmount(BlockingWorkQueue.patience)) { [weak self] in
            guard let self else { return timers.close() }
            let now = NIODeadline.now().uptimeNanoseconds
            for queue in [readers, bulk, writer] { queue.growIfStuck(uptimeNanoseconds: now) }
            probeSpace()
            scheduleUpkeep()
        }
    }

    /// Tests whether a new file can be written. The heartbeat is written in place and does not reveal a full disk, so a
    /// process with a journal probes from time to time and knows that the volume is full before it has to write.
    private func probeSpace() {
        let isFull = health.needsSpaceProbe
        let isDue = shared.withLock { shared -> Bool in
            guard isFull || shared.member != nil, !shared.isProbing, shared.nextSpaceProbe <= .now() else {
                return false
            }
            shared.isProbing = true
            shared.nextSpaceProbe = .now() + (isFull ? StoreHealth.limit : Self.betweenSpaceProbes)
            return true
        }
        guard isDue else { return }
        let size = isFull ? options.requiredSpace : 16_384
        let (volume, health) = (volume, health)
        let isAccepted = writer.submit { [weak self] in
            defer { self?.shared.withLock { $0.isProbing = false } }
            do throws(StoreError) {
                let probe = try volume.writeTemporary([UInt8](repeating: 1, count: size), durable: true)
                try? volume.files.unlink(probe)
                health.recordWrite()
            } catch {
                // The heartbeat reveals every other failure.
                health.recordWrite(error)
            }
        }
        if !isAccepted { shared.withLock { $0.isProbing = false } }
    }

    /// Deletes what is no longer needed: a round a minute, in slices that a reader and the writer alternate in. If a
    /// slice does not end, because a file hangs, another collector goes on without that file.
    func scheduleSweep(_ collector: GarbageCollector) {
        // Used by one job at a time.
        let box = ThreadConfined(collector)
        let pause = collector.isRoundFinished ? options.sweepInterval : Self.betweenSlices
        timers.schedule(at: .now() + pause) { [weak self] in
            guard let self else { return }
            let (timers, patience) = (timers, options.callDeadline)
            let isAccepted = readers.submit { [weak self] in
                let (collector, now) = (box.value, NIODeadline.now())
                let supervision = timers.schedule(at: now + patience) { [weak self] in
                    if let successor = box.value.successor() { self?.scheduleSweep(successor) }
                }
                if collector.isRoundFinished {
                    collector.settled = self?.settledRemovals(now: now, collector.isWaiting)
                }
                let found = (try? collector.examine(now: now)) ?? []
                timers.cancel(supervision)
                guard let next = collector.continuation() else { return }
                if next === collector { self?.delete(found[...], box) } else { self?.scheduleSweep(next) }
            }
            if !isAccepted { scheduleSweep(box.value) }
        }
    }

    /// Returns the time before which every removal has been acted on by all members, and announces a change for those
    /// that this process has found since. A member that acts on a change has read the hints after the announcement.
    ///
    /// - Parameter isWaiting: Whether there are removed keys that are not settled.
    /// - Returns: `nil` if this process is no member, or some member has not acted on what was announced.
    package func settledRemovals(now: NIODeadline, _ isWaiting: Bool) -> NIODeadline? {
        let (member, members, last) = shared.withLock { ($0.member, $0.members, $0.removals) }
        guard let member, let members else { return nil }
        if isWaiting {
            member.recordWrite()
            shared.withLock { $0.removals = (member.mark, now) }
        }
        return last.flatMap { members.allCover($0.mark) ? $0.at : nil }
    }

    /// Deletes in jobs of the writer, behind the heartbeats and leases that wait for it.
    private func delete(_ deletions: ArraySlice<GarbageCollector.Deletion>, _ box: ThreadConfined<GarbageCollector>) {
        guard !deletions.isEmpty else { return scheduleSweep(box.value) }
        let isAccepted = writer.submit { [weak self] in
            let rest = box.value.delete(deletions)
            self?.delete(rest, box)
        }
        if !isAccepted { scheduleSweep(box.value) }
    }
}

/// Carries a value that is not thread-safe to the thread that uses it. The caller guarantees that one thread at a time
/// uses it, by passing it from one job of a serial queue to the next.
final class ThreadConfined<Value>: @unchecked Sendable {
    let value: Value

    init(_ value: Value) {
        self.value = value
    }
}
