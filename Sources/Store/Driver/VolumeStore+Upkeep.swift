internal import NIOCore
internal import Synchronization

/// What the timer thread starts again and again. The timers hold the store weakly: it ends when its owner lets it go.
extension VolumeStore {
    /// Between two looks whether a volume that is well has space.
    private static let betweenSpaceProbes = TimeAmount.seconds(4)

    /// Readers that hang get company; a volume that was full is asked whether it still is.
    func scheduleUpkeep() {
        let timers = timers
        timers.schedule(at: .now() + BlockingWorkQueue.patience) { [weak self] in
            guard let self else { return timers.close() }
            readers.growIfStuck(now: .now())
            probeSpace()
            scheduleUpkeep()
        }
    }

    /// A heartbeat is written in place and says nothing of space: a process that has one tries now and then whether a new
    /// file can be had, so that a full volume is known before something has to be written.
    private func probeSpace() {
        let isFull = health.needsSpaceProbe
        let isDue = shared.withLock { shared -> Bool in
            guard isFull || shared.journal != nil, !shared.isProbing, shared.nextSpaceProbe <= .now() else {
                return false
            }
            shared.isProbing = true
            shared.nextSpaceProbe = .now() + (isFull ? StoreHealth.limit : Self.betweenSpaceProbes)
            return true
        }
        guard isDue else { return }
        // A volume that was full is well again when it takes what a journal may want at once, not when one block is free.
        let size = isFull ? Int(options.pace.logStep) + 65_536 : 16_384
        let (volume, health) = (volume, health)
        let isAccepted = writer.submit { [weak self] in
            defer { self?.shared.withLock { $0.isProbing = false } }
            do throws(StoreError) {
                let probe = try volume.writeTemporary([UInt8](repeating: 1, count: size), durable: true)
                try? volume.files.unlink(probe.path)
                health.space(found: true)
            } catch {
                // Everything else is seen by the heartbeat.
                if error.code == .full { health.space(found: false) }
            }
        }
        if !isAccepted { shared.withLock { $0.isProbing = false } }
    }

    func scheduleSweep(_ housekeeper: Housekeeper) {
        // Used by one job of the writer after the other.
        let box = Unshared(housekeeper)
        timers.schedule(at: .now() + .minutes(1)) { [weak self] in
            guard let self else { return }
            let isAccepted = writer.submit { [weak self] in
                _ = try? box.value.sweep(now: .now())
                self?.scheduleSweep(box.value)
            }
            if !isAccepted { scheduleSweep(box.value) }
        }
    }
}

/// Carries something that one thread at a time uses across to that thread; the order of jobs on a line keeps it so.
final class Unshared<Value>: @unchecked Sendable {
    let value: Value

    init(_ value: Value) {
        self.value = value
    }
}
