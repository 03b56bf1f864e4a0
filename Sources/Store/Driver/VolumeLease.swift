internal import NIOCore
internal import Synchronization

/// A lease of a ``VolumeStore``: moved by the store's writer thread until it is released, lost or let go.
final class VolumeLease: StoreLease {
    let epoch: UInt64
    private let store: VolumeStore
    /// Touched by jobs of the writer only.
    private let held: Unshared<HeldLease>
    private let timeToLive: TimeAmount
    private let life: Mutex<Life>

    private struct Life {
        /// Others may take it from then on.
        var end: NIODeadline
        var isOver = false
    }

    init(store: VolumeStore, held: HeldLease) {
        self.store = store
        self.held = Unshared(held)
        epoch = held.epoch
        timeToLive = held.timeToLive
        life = Mutex(Life(end: held.end))
        schedule(at: held.nextMove)
    }

    var isHeld: Bool { life.withLock { !$0.isOver && NIODeadline.now() < $0.end } }

    func check() async throws(StoreError) {
        guard isHeld else { throw lost() }
        let held = held
        do {
            try await store.perform(on: store.writer, .lease) { _ throws(StoreError) in try held.value.check() }
        } catch {
            if error.code == .fenced { life.withLock { $0.isOver = true } }
            throw error
        }
        guard isHeld else { throw lost() }
    }

    func release() async {
        let wasHeld = isHeld
        life.withLock { $0.isOver = true }
        guard wasHeld else { return }
        let held = held
        try? await store.perform(on: store.writer, .lease) { volume throws(StoreError) in
            try held.value.release(now: volume.now())
        }
    }

    private func schedule(at due: NIODeadline) {
        let timers = store.timers
        timers.schedule(at: due) { [weak self] in self?.move() }
    }

    private func move() {
        guard isHeld else { return }
        let (held, volume) = (held, store.volume)
        let isAccepted = store.writer.submit { [weak self] in
            guard let self, isHeld else { return }
            let began = volume.now()
            defer { store.observed(.lease, volume.now() - began) }
            do throws(StoreError) {
                try held.value.move(now: began)
                let end = held.value.end
                life.withLock { $0.end = end }
                schedule(at: held.value.nextMove)
            } catch {
                guard error.code != .fenced else { return life.withLock { $0.isOver = true } }
                schedule(at: .now() + .nanoseconds(timeToLive.third.nanoseconds / 4))
            }
        }
        if !isAccepted { schedule(at: .now() + .nanoseconds(timeToLive.third.nanoseconds / 4)) }
    }

    private func lost() -> StoreError {
        StoreError(.fenced, store.volume.files.root, "the lease of epoch \(epoch) was lost or released")
    }
}

extension VolumeStore {
    package func lease(_ name: StoreKey, _ options: LeaseOptions) async throws(StoreError) -> any StoreLease {
        let volume = volume
        func newCandidate() -> Unshared<LeaseCandidate> {
            Unshared(
                LeaseCandidate(volume: volume, name: name, fencing: options.fencing, timeToLive: options.timeToLive)
            )
        }
        var candidate = newCandidate()
        let deadline = NIODeadline.now() + options.patience
        while !Task.isCancelled {
            guard NIODeadline.now() < deadline else {
                throw StoreError(.stalled, volume.shown("locks/\(name)"), "somebody else holds this lease")
            }
            var next = NIODeadline.now() + options.timeToLive.third
            let asked = candidate
            do {
                let step = try await perform(on: readers, .lease) { volume throws(StoreError) in
                    try asked.value.poll(now: volume.now())
                }
                switch step {
                case .wait(let until): next = until
                case .take(let epoch):
                    // It moves from now on, however late this task comes to hear of it.
                    let lease = try await perform(on: writer, .lease) { _ throws(StoreError) in
                        try asked.value.take(epoch).map { VolumeLease(store: self, held: $0) }
                    }
                    if let lease { return lease }
                    continue
                }
            } catch {
                guard error.isTransient else { throw error }
                // A look that hangs may still be under way: it keeps its candidate for itself.
                if error.code == .stalled { candidate = newCandidate() }
            }
            try await sleep(until: min(next, deadline))
        }
        throw StoreError(.closed, volume.shown("locks/\(name)"), "nobody waits for this lease any more")
    }
}
