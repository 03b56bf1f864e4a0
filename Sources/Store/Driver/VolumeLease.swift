import NIOCore
import Synchronization
import Threads

/// A lease of a ``VolumeStore``. Jobs of the store's writer thread renew it until it is released, lost or deallocated.
final class VolumeLease: StoreLease {
    let epoch: UInt64
    private let store: VolumeStore
    /// Confined to jobs of the writer.
    private let held: ThreadConfined<HeldLease>
    private let timeToLive: TimeAmount
    /// The folder, for messages.
    private let place: String
    private let life: Mutex<Life>

    private struct Life {
        /// The time from which other processes may acquire the lease.
        var expiry: NIODeadline
        /// Whether the lease has been released or is known to be lost.
        var hasEnded = false
    }

    init(store: VolumeStore, held: HeldLease) {
        self.store = store
        self.held = ThreadConfined(held)
        epoch = held.epoch
        timeToLive = held.timeToLive
        place = held.place
        life = Mutex(Life(expiry: held.expiry))
        schedule(at: held.nextRenewal)
    }

    var isHeld: Bool { life.withLock { !$0.hasEnded && NIODeadline.now() < $0.expiry } }

    func check() async throws(StoreError) {
        guard isHeld else { throw lost() }
        let held = held
        do {
            try await store.perform(on: store.writer, .lease) { _ throws(StoreError) in try held.value.check() }
        } catch {
            if error.code == .fenced { life.withLock { $0.hasEnded = true } }
            throw error
        }
        guard isHeld else { throw lost() }
    }

    /// Writes a value if the lease is still held. Called in a job of the writer, which also renews and releases the
    /// lease, so that neither happens between the check and the write.
    func write(_ key: StoreKey, _ change: ValueWrite) throws(StoreError) -> UInt64 {
        guard isHeld else { throw lost() }
        do {
            return try held.value.write(key, change)
        } catch {
            if error.code == .fenced { life.withLock { $0.hasEnded = true } }
            throw error
        }
    }

    func release() async {
        let wasHeld = isHeld
        life.withLock { $0.hasEnded = true }
        guard wasHeld else { return }
        let held = held
        try? await store.perform(on: store.writer, .lease) { volume throws(StoreError) in
            try held.value.release(now: volume.now())
        }
    }

    private func schedule(at due: NIODeadline) {
        let timers = store.timers
        timers.schedule(at: due) { [weak self] in self?.renew() }
    }

    private func renew() {
        guard isHeld else { return }
        let (held, volume) = (held, store.volume)
        let isAccepted = store.writer.submit { [weak self] in
            guard let self, isHeld else { return }
            let began = volume.now()
            defer { store.record(.lease, volume.now() - began) }
            do throws(StoreError) {
                try held.value.renew(now: began)
                let expiry = held.value.expiry
                life.withLock { $0.expiry = expiry }
                schedule(at: held.value.nextRenewal)
            } catch {
                guard error.code != .fenced else { return life.withLock { $0.hasEnded = true } }
                schedule(at: .now() + .nanoseconds(timeToLive.third.nanoseconds / 4))
            }
        }
        if !isAccepted { schedule(at: .now() + .nanoseconds(timeToLive.third.nanoseconds / 4)) }
    }

    private func lost() -> StoreError {
        StoreError(.fenced, place, "the lease of epoch \(epoch) was lost or released")
    }
}

extension VolumeStore {
    package func lease(_ name: StoreKey, _ options: LeaseOptions) async throws(StoreError) -> any StoreLease {
        let volume = volume
        func newCandidate() -> ThreadConfined<LeaseCandidate> {
            ThreadConfined(
                LeaseCandidate(volume: volume, lease: name, options: options, name: self.options.processName)
            )
        }
        var candidate = newCandidate()
        let began = NIODeadline.now()
        let deadline = began + options.patience
        var notice = options.onWait == nil ? NIODeadline.distantFuture : began + LeaseWait.notice
        var holder: String?
        var failure: StoreError?
        let place = volume.displayPath("locks/\(name)")
        while !Task.isCancelled {
            guard NIODeadline.now() < deadline else {
                // `stalled` means that the lease is held.
                if let failure {
                    let code = failure.code == .stalled ? .transient : failure.code
                    throw StoreError(code, failure.place, failure.reason, fault: failure.fault)
                }
                let reason = "the lease is held by \(holder ?? "another process"); try again later"
                throw StoreError(.stalled, place, reason)
            }
            var next = NIODeadline.now() + options.pollInterval
            let polled = candidate
            do {
                let step = try await perform(on: readers, of: "locks/\(name)", .lease) { volume throws(StoreError) in
                    try polled.value.poll(now: volume.now())
                }
                switch step {
                case .wait(let until, let name):
                    next = until
                    (holder, failure) = (name ?? holder, nil)
                case .acquire(let epoch):
                    failure = nil
                    // The job creates the `VolumeLease`, so the lease is renewed however late this task resumes.
                    let lease = try await perform(on: writer, .lease) { _ throws(StoreError) in
                        try polled.value.acquire(epoch).map { VolumeLease(store: self, held: $0) }
                    }
                    if let lease { return lease }
                    continue
                }
            } catch {
                guard error.isTransient else { throw error }
                failure = error
                // A poll that hangs may still be running and keeps its candidate, which is not thread-safe: use a new
                // one.
                if error.code == .stalled { candidate = newCandidate() }
            }
            let now = NIODeadline.now()
            if now >= notice, failure == nil {
                options.onWait?(LeaseWait(place: place, holder: holder, limit: max(.zero, deadline - now)))
                notice = .distantFuture
            }
            try await sleep(until: min(next, deadline, notice > now ? notice : next))
        }
        throw StoreError(.closed, place, "the wait for the lease was cancelled")
    }
}
