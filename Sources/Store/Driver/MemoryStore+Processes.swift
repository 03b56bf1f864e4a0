import NIOCore
import Synchronization

// MARK: Leases

/// A lease of a ``MemoryStore``. Its holder lives in the same process as the store, so the lease does not expire;
/// releasing the last reference to it releases the lease.
final class MemoryLease: StoreLease {
    let epoch: UInt64
    private let store: MemoryStore
    private let name: StoreKey

    init(store: MemoryStore, name: StoreKey, epoch: UInt64) {
        self.store = store
        self.name = name
        self.epoch = epoch
    }

    deinit { end() }

    var isHeld: Bool { store.contents.withLock { $0.holders[name] == epoch && !$0.isClosed } }

    func check() async throws(StoreError) {
        guard isHeld else {
            throw StoreError(.fenced, "locks/\(name)", "the lease of epoch \(epoch) was lost or released")
        }
    }

    func release() async { end() }

    private func end() {
        store.contents.withLock { contents in
            if contents.holders[name] == epoch { contents.holders[name] = nil }
        }
    }
}

extension MemoryStore {
    package func lease(_ name: StoreKey, _ options: LeaseOptions) async throws(StoreError) -> any StoreLease {
        let deadline = NIODeadline.now() + options.patience
        while !Task.isCancelled {
            if contents.withLock({ $0.isClosed }) { break }
            let epoch = contents.withLock { contents -> UInt64? in
                guard contents.holders[name] == nil, !contents.isClosed else { return nil }
                let epoch = max(contents.epochs[name] ?? 0, options.notBelow) + 1
                contents.epochs[name] = epoch
                contents.holders[name] = epoch
                return epoch
            }
            if let epoch { return MemoryLease(store: self, name: name, epoch: epoch) }
            guard NIODeadline.now() < deadline else {
                throw StoreError(.stalled, "locks/\(name)", "the lease is held by another caller; try again later")
            }
            try? await Task.sleep(nanoseconds: 20_000_000)
        }
        throw StoreError(.closed, "locks/\(name)", "the wait for the lease was cancelled")
    }
}

// MARK: Members

/// The only member of a store in memory. No other process observes it.
final class MemoryMember: StoreMember {
    private let store: MemoryStore
    let incarnation: Incarnation

    init(store: MemoryStore, incarnation: Incarnation) {
        self.store = store
        self.incarnation = incarnation
    }

    var mark: Mark { Mark() }
    func update(_ change: @escaping @Sendable (inout MemberStatus) -> Void) {}
    func put(key: [UInt8], value: [UInt8]) throws(StoreError) { try JournalRecord.requireSize(key: key, value: value) }
    func remove(key: [UInt8]) {}
    func renewInfo() {}

    func flush(within limit: TimeAmount) async throws(StoreError) {
        guard store.contents.withLock({ !$0.isClosed }) else {
            throw StoreError(.closed, "the store", "was closed")
        }
    }
}

extension MemoryStore {
    package func join(_ options: JoinOptions) async throws(StoreError) -> any StoreMember {
        MemoryMember(store: self, incarnation: options.incarnation())
    }

    package func observeMembers(_ deliver: @escaping @Sendable (MemberEvent) -> Void) -> MemberObservation {
        deliver(.listed([]))
        return MemberObservation()
    }

    package func archive(_ member: Incarnation) async throws(StoreError) {
        throw StoreError(.notFound, "replicas/\(member)", "there is no such replica")
    }
}
