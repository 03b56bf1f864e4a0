package import NIOCore
import Synchronization

/// The state that the replicas of a gateway share. Users of the store depend on this protocol only.
///
/// The store has four parts, which share one set of keys:
/// - *Values*: small documents with a version number each. A change names the version that it replaces, so of several
///   concurrent writers one succeeds and the others get `conflict`. A write under a *lease* is fenced.
/// - *Generations*: sets of files published in one step under a *lease*, whose epoch fences out earlier holders.
/// - *Watches*: ``changes(_:)`` reports new versions and generations below a prefix.
/// - *Journals*: one per process, written by that process alone: a heartbeat and rows that the other replicas read.
///
/// A process opens one store at start-up, starts its journal once, and closes the store at its end. All methods may be
/// called from any thread. Every call may take long and has its own deadline (``StoreError/Code/stalled``); none may be
/// awaited on the data path. After an error other than `exists`, `conflict`, `notFound`, `tooLarge`, `badName` and
/// `fenced` a change may have happened or may still happen: read again before repeating it.
package protocol Store: Sendable {
    /// Returns the newest version of a value.
    ///
    /// - Throws: `notFound` if the value was never created or has been removed.
    func read(_ key: StoreKey) async throws(StoreError) -> StoredValue

    /// Returns the newest version of a value, waiting at most `limit`.
    func read(_ key: StoreKey, within limit: TimeAmount) async throws(StoreError) -> StoredValue

    /// Reads the newest version of every value one level below a prefix, for an initial load of thousands of values.
    ///
    /// A key whose newest version cannot be read now is delivered with its failure; removed keys are left out.
    ///
    /// - Parameter deliver: Called with one part after another and with the total number of keys, concurrently on
    ///   several threads of the store. If the call throws, the parts delivered before are valid.
    func readAll(
        _ prefix: StoreKey,
        _ deliver: @escaping @Sendable (_ part: [StoreReading], _ count: Int) -> Void
    ) async throws(StoreError)

    /// Returns the keys one level below a prefix, sorted. Keys that were removed may be among them.
    func list(_ prefix: StoreKey) async throws(StoreError) -> [StoreKey]

    /// Creates, replaces or removes a value and returns its new version; a removal is a version, too.
    ///
    /// - Parameter lease: The lease that fences the write, or `nil`. Once the next holder of the lease has written the
    ///   key, no earlier holder's write succeeds.
    /// - Throws: `exists` if a value to be created exists, `notFound` if there is none to be replaced or removed,
    ///   `conflict` if the expected version is not the newest, `fenced` if the lease was lost.
    @discardableResult
    func write(
        _ key: StoreKey,
        _ change: ValueWrite,
        under lease: (any StoreLease)?
    ) async throws(StoreError) -> UInt64

    /// Returns the changes one level below a prefix: first everything that exists, then each change within two seconds.
    func changes(_ prefix: StoreKey) -> StoreChanges

    /// Waits for a lease and acquires it. Called only when there is work to do under it.
    ///
    /// - Throws: `stalled` if another process held it for as long as ``LeaseOptions/patience``, `closed` if the task
    ///   was cancelled.
    func lease(_ name: StoreKey, _ options: LeaseOptions) async throws(StoreError) -> any StoreLease

    /// Publishes a set of files in one step, under a lease that fences this key. Readers use the highest generation.
    func publish(
        _ key: StoreKey,
        _ files: [String: [UInt8]],
        under lease: any StoreLease
    ) async throws(StoreError) -> Generation

    /// Returns the highest generation that is complete and that `accepts` approves.
    func newest(
        _ key: StoreKey,
        files: [String],
        accepts: @escaping @Sendable ([String: [UInt8]]) -> Bool
    ) async throws(StoreError) -> StoredGeneration

    /// Starts the journal of this process. Called once per store.
    func journal(_ options: JournalOptions) async throws(StoreError) -> any StoreJournal

    /// Returns the incarnations that have a journal, dead or alive, this process included.
    func replicas() async throws(StoreError) -> [Incarnation]

    /// Returns the information that a replica publishes in addition to its heartbeat; see ``JournalOptions/info``.
    func info(of replica: Incarnation) async throws(StoreError) -> [UInt8]

    /// Reads the journal of a replica once and returns all that is known of the replica. A failed read leaves the last
    /// known heartbeat and rows in place and is reported in ``ReplicaObservation/problem``.
    func observe(_ replica: Incarnation) async -> ReplicaObservation

    /// Reads the journal of a replica once, waiting at most `limit`.
    func observe(_ replica: Incarnation, within limit: TimeAmount) async -> ReplicaObservation

    /// Moves the journal of a dead replica to the archive (`tombs/` on a volume). A replica that is alive after all
    /// restarts under a new incarnation.
    func archive(_ replica: Incarnation) async throws(StoreError)

    /// Polls these keys now, because a peer has announced that it published them.
    func refresh(_ keys: [StoreKey])

    /// Sets a closure that is called with every key that this process publishes, on a thread of the store, so that the
    /// peers can be notified.
    func onPublished(_ body: @escaping @Sendable (StoreKey) -> Void)

    /// The current condition of the store. Returns at once.
    var state: StoreState { get }

    /// Closes the store: stops its threads, finishes its watches and stops renewing its leases. Returns at once;
    /// pending calls fail with `closed`.
    func close()
}

extension Store {
    /// Creates, replaces or removes a value that no lease protects.
    @discardableResult
    package func write(_ key: StoreKey, _ change: ValueWrite) async throws(StoreError) -> UInt64 {
        try await write(key, change, under: nil)
    }

    /// Reads all values one level below a prefix, in no particular order.
    package func readAll(_ prefix: StoreKey) async throws(StoreError) -> [StoreReading] {
        let all = Mutex<[StoreReading]>([])
        try await readAll(prefix) { part, _ in all.withLock { $0 += part } }
        return all.withLock { $0 }
    }
}

/// Defaults for drivers that respond at once and need no limit.
extension Store {
    package func read(_ key: StoreKey, within limit: TimeAmount) async throws(StoreError) -> StoredValue {
        try await read(key)
    }

    package func observe(_ replica: Incarnation, within limit: TimeAmount) async -> ReplicaObservation {
        await observe(replica)
    }
}

/// The parameters of ``Store/lease(_:_:)``.
package struct LeaseOptions: Sendable {
    /// The key whose generations are published under this lease, if any. A new holder's epoch is higher than all of
    /// theirs.
    package var fencing: StoreKey?
    /// The time without a renewal after which the holder is considered dead.
    package var timeToLive = TimeAmount.seconds(15)
    /// The longest time to wait for the lease.
    package var patience = TimeAmount.minutes(10)

    package init(fencing: StoreKey? = nil) {
        self.fencing = fencing
    }
}

/// A lease that this process holds. It is renewed until it is released, lost, or no longer referenced.
package protocol StoreLease: AnyObject, Sendable {
    /// The fencing token: higher than that of every earlier holder.
    var epoch: UInt64 { get }

    /// Whether the lease is held as far as this process knows: `false` as soon as another process may have acquired it.
    /// Returns at once without asking the store, so it is no proof to others.
    var isHeld: Bool { get }

    /// Verifies against the store that the lease is still held. Called before every action under the lease.
    ///
    /// - Throws: `fenced` if it has been lost.
    func check() async throws(StoreError)

    /// Releases the lease, so that a waiting process need not wait for the time to live.
    func release() async
}

/// The parameters of ``Store/journal(_:)``.
package struct JournalOptions: Sendable {
    /// Creates the name of this process: called at the start, and again whenever others have archived its journal.
    package var incarnation: @Sendable () -> Incarnation
    /// Returns the information that a replica publishes in addition to its heartbeat (the file `card`), sealed; at most
    /// ``Volume/infoLimit`` bytes.
    package var info: @Sendable (Incarnation) -> [UInt8]
    /// Called with each new name after the first, when the rows have already been published under it.
    package var onNewIncarnation: @Sendable (Incarnation) -> Void

    package init(
        incarnation: @escaping @Sendable () -> Incarnation,
        info: @escaping @Sendable (Incarnation) -> [UInt8],
        onNewIncarnation: @escaping @Sendable (Incarnation) -> Void = { _ in }
    ) {
        self.incarnation = incarnation
        self.info = info
        self.onNewIncarnation = onNewIncarnation
    }
}

/// The journal of this process. Calls from any thread return at once; the changes become durable and visible shortly
/// after.
package protocol StoreJournal: AnyObject, Sendable {
    /// The name under which this process writes its journal now.
    var incarnation: Incarnation { get }

    /// Sets a row.
    ///
    /// - Parameters:
    ///   - key: At most ``JournalRecord/keyLimit`` bytes.
    ///   - value: At most ``JournalRecord/valueLimit`` bytes.
    func put(key: [UInt8], value: [UInt8])

    /// Removes a row.
    func remove(key: [UInt8])

    /// Changes the fields of the heartbeat that belong to the caller: state, sessions, load, seen.
    func update(_ change: @escaping @Sendable (inout Heartbeat) -> Void)

    /// Increments the heartbeat's `published` count, so that the replicas that observe this one poll the store again.
    ///
    /// - Returns: The new count. A replica whose heartbeat reports this count or a higher one as seen has polled the
    ///   store after this call.
    func announce() -> UInt64

    /// Writes the replica information again, because ``JournalOptions/info`` returns something new for this
    /// incarnation.
    func renewInfo()

    /// Returns when every earlier change is durable, or throws the error of the write.
    ///
    /// - Parameter limit: The longest time to wait.
    /// - Throws: `stalled` if it took longer; the changes may still be written.
    func flush(within limit: TimeAmount) async throws(StoreError)
}

extension StoreJournal {
    package func flush() async throws(StoreError) { try await flush(within: .seconds(10)) }
}

/// The knowledge about a replica after a read of its journal.
package struct ReplicaObservation: Sendable {
    /// The newest heartbeat and the time at which it last moved, or `nil` if none was ever read.
    package var lastHeartbeat: LastHeartbeat?
    /// The last valid view of the rows, or `nil` if there was none.
    package var view: ReplicaView?
    /// The error of the last read, or `nil` if it succeeded.
    package var problem: StoreError?

    package init(lastHeartbeat: LastHeartbeat?, view: ReplicaView?, problem: StoreError?) {
        self.lastHeartbeat = lastHeartbeat
        self.view = view
        self.problem = problem
    }
}
