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
                let floor = options.fencing.flatMap { contents.generations[$0]?.last?.generation.epoch } ?? 0
                let epoch = max(contents.epochs[name] ?? 0, floor) + 1
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

// MARK: Journals

/// The journal of a process whose store is in its own memory. Changes are visible at once; nothing is durable.
final class MemoryJournal: StoreJournal {
    private let store: MemoryStore

    init(store: MemoryStore) {
        self.store = store
    }

    var incarnation: Incarnation {
        store.contents.withLock { $0.journal ?? Incarnation(high: 0, low: 0) }
    }

    func put(key: [UInt8], value: [UInt8]) {
        precondition(key.count <= JournalRecord.keyLimit && value.count <= JournalRecord.valueLimit)
        change { $0.view?.table.apply(.put(key: key, value: value)) }
    }

    func remove(key: [UInt8]) {
        change { $0.view?.table.apply(.remove(key: key)) }
    }

    func update(_ change: @escaping @Sendable (inout Heartbeat) -> Void) {
        self.change { $0.beat(change) }
    }

    func announce() -> UInt64 {
        change { $0.beat { $0.published &+= 1 } }
        return store.contents.withLock { contents in
            contents.journal.flatMap { contents.journals[$0]?.observation.lastHeartbeat?.heartbeat.published } ?? 0
        }
    }

    func renewInfo() {
        store.contents.withLock { contents in
            guard let own = contents.journal, var journal = contents.journals[own] else { return }
            journal.info = journal.options.info(own)
            contents.journals[own] = journal
        }
    }

    func flush(within limit: TimeAmount) async throws(StoreError) {
        guard store.contents.withLock({ !$0.isClosed }) else {
            throw StoreError(.closed, "journal", "the store was closed")
        }
    }

    /// Applies a change. If the journal has been archived, it starts again under a new incarnation, as on a volume.
    private func change(_ body: (inout ReplicaObservation) -> Void) {
        let restarted = store.contents.withLock { contents -> (JournalOptions, Incarnation)? in
            guard let own = contents.journal, var journal = contents.journals[own] ?? contents.archived else {
                return nil
            }
            let wasArchived = contents.journals[own] == nil
            body(&journal.observation)
            guard wasArchived else {
                journal.observation.beat { _ in }
                contents.journals[own] = journal
                return nil
            }
            let new = journal.options.incarnation()
            journal.info = journal.options.info(new)
            journal.observation.beat { $0.incarnation = new }
            contents.journals[new] = journal
            contents.journal = new
            contents.archived = nil
            return (journal.options, new)
        }
        if let (options, new) = restarted { options.onNewIncarnation(new) }
    }
}

extension MemoryStore {
    package func journal(_ options: JournalOptions) async throws(StoreError) -> any StoreJournal {
        let incarnation = options.incarnation()
        let first = Heartbeat(incarnation: incarnation, sequence: 1)
        let observation = ReplicaObservation(
            lastHeartbeat: LastHeartbeat(heartbeat: first, movedAt: .now()),
            view: ReplicaView(heartbeat: first, table: JournalTable()),
            problem: nil
        )
        let isFirst = contents.withLock { contents in
            guard contents.journal == nil, !contents.isClosed else { return false }
            contents.journal = incarnation
            contents.journals[incarnation] = Journal(
                observation: observation,
                info: options.info(incarnation),
                options: options
            )
            return true
        }
        guard isFirst else {
            throw StoreError(.closed, "journal", "the store is closed or already has a journal")
        }
        return MemoryJournal(store: self)
    }

    package func replicas() async throws(StoreError) -> [Incarnation] {
        contents.withLock { $0.journals.keys.sorted() }
    }

    package func info(of replica: Incarnation) async throws(StoreError) -> [UInt8] {
        guard let info = contents.withLock({ $0.journals[replica]?.info }) else { throw Self.unknown(replica) }
        return info
    }

    package func observe(_ replica: Incarnation) async -> ReplicaObservation {
        contents.withLock { $0.journals[replica]?.observation }
            ?? ReplicaObservation(lastHeartbeat: nil, view: nil, problem: Self.unknown(replica))
    }

    package func archive(_ replica: Incarnation) async throws(StoreError) {
        let isKnown = contents.withLock { contents in
            guard let journal = contents.journals.removeValue(forKey: replica) else { return false }
            if contents.journal == replica { contents.archived = journal }
            return true
        }
        guard isKnown else { throw Self.unknown(replica) }
    }

    private static func unknown(_ replica: Incarnation) -> StoreError {
        StoreError(.notFound, "replicas/\(replica)", "there is no such replica")
    }
}
