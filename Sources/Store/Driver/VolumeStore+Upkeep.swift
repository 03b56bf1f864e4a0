internal import NIOCore
internal import Synchronization

/// What the timer thread starts again and again. The timers hold the store weakly: it ends when its owner lets it go.
extension VolumeStore {
    /// Readers that hang get company; a volume that was full is asked whether it still is.
    func scheduleUpkeep() {
        let timers = timers
        timers.schedule(at: .now() + JobLine.patience) { [weak self] in
            guard let self else { return timers.close() }
            readers.growIfStuck(now: .now())
            if health.needsSpaceProbe { probeSpace() }
            scheduleUpkeep()
        }
    }

    /// At most one of these waits at a time, because a further one finds the line busy with it.
    private func probeSpace() {
        let (volume, health) = (volume, health)
        let due = shared.withLock { shared -> Bool in
            guard shared.nextSpaceProbe <= .now() else { return false }
            shared.nextSpaceProbe = .now() + StoreHealth.limit
            return true
        }
        guard due else { return }
        _ = writer.submit {
            guard health.needsSpaceProbe,
                let probe = try? volume.writeTemporary([UInt8](repeating: 1, count: 16_384), durable: true)
            else { return }
            try? volume.files.unlink(probe.path)
            health.space(found: true)
        }
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
