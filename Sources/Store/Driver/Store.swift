package import NIOCore
import Synchronization

/// What the replicas of a gateway share. The users of the store know this protocol only.
///
/// Every call may take long and has a deadline of its own (``StoreError/Code/stalled``); none may be awaited by the data
/// path. After an error other than `exists`, `conflict`, `notFound`, `tooLarge`, `badName` and `fenced` a change may have
/// happened or may happen later: read again before it is repeated.
package protocol Store: Sendable {
    /// The newest version of a value.
    func read(_ key: StoreKey) async throws(StoreError) -> StoredValue

    /// The same, waiting no longer than that.
    func read(_ key: StoreKey, within limit: TimeAmount) async throws(StoreError) -> StoredValue

    /// The newest version of every value one level below a prefix: a first look at thousands of them at once. A key whose
    /// newest version cannot be read now has a failure; removed ones are left out.
    ///
    /// - Parameter take: called with one part after the other, and with the number of keys of all; on threads of the store,
    ///   several at a time. What it was given before an error is true.
    func readAll(
        _ prefix: StoreKey,
        _ take: @escaping @Sendable (_ part: [StoreReading], _ count: Int) -> Void
    ) async throws(StoreError)

    /// The keys one level below a prefix, sorted. Among them may be keys that were removed.
    func list(_ prefix: StoreKey) async throws(StoreError) -> [StoreKey]

    /// Makes a value that is not there; `exists` otherwise. Returns its version.
    func create(_ key: StoreKey, _ bytes: [UInt8]) async throws(StoreError) -> UInt64

    /// Writes the next version if `version` is the newest; `conflict` otherwise. Returns the new version.
    func replace(_ key: StoreKey, expecting version: UInt64, _ bytes: [UInt8]) async throws(StoreError) -> UInt64

    /// Removes a value.
    ///
    /// - Parameter version: has to be the newest; nil takes any.
    func remove(_ key: StoreKey, expecting version: UInt64?) async throws(StoreError)

    /// What changes one level below a prefix: first everything that is there, then every change, within two seconds.
    func changes(_ prefix: StoreKey) -> StoreChanges

    /// Waits for a lease and takes it. To be asked for only when there is work.
    ///
    /// - Throws: `stalled` if somebody else held it for as long as `patience`; `closed` when the task was cancelled.
    func lease(_ name: StoreKey, _ options: LeaseOptions) async throws(StoreError) -> any StoreLease

    /// Publishes a set of files in one step, under a lease that fences this key. Readers take the highest generation.
    func publish(
        _ key: StoreKey,
        _ files: [String: [UInt8]],
        under lease: any StoreLease
    ) async throws(StoreError) -> Generation

    /// The highest generation that is whole and that `accepts` takes.
    func newest(
        _ key: StoreKey,
        files: [String],
        accepts: @escaping @Sendable ([String: [UInt8]]) -> Bool
    ) async throws(StoreError) -> StoredGeneration

    /// Starts the journal of this process. Once for each store.
    func journal(_ options: JournalOptions) async throws(StoreError) -> any StoreJournal

    /// The processes that have a journal, dead or alive, this one included.
    func replicas() async throws(StoreError) -> [Incarnation]

    /// What a replica says of itself beside its heartbeat.
    func card(of replica: Incarnation) async throws(StoreError) -> [UInt8]

    /// Looks at the journal of a replica once. What was known stays known whatever the look says.
    func follow(_ replica: Incarnation) async -> ReplicaObservation

    /// The same, waiting no longer than that.
    func follow(_ replica: Incarnation, within limit: TimeAmount) async -> ReplicaObservation

    /// Puts the journal of a dead replica away.
    func bury(_ replica: Incarnation) async throws(StoreError)

    /// A peer says that it published these keys: they are looked at now.
    func announced(_ keys: [StoreKey])

    /// Called with every key that this process published, on a thread of the store: to tell the peers.
    func onPublished(_ body: @escaping @Sendable (StoreKey) -> Void)

    var state: StoreState { get }

    /// Ends threads, watches and leases. Waits for nothing.
    func close()
}

extension Store {
    /// All of them, in no order.
    package func readAll(_ prefix: StoreKey) async throws(StoreError) -> [StoreReading] {
        let all = Mutex<[StoreReading]>([])
        try await readAll(prefix) { part, _ in all.withLock { $0 += part } }
        return all.withLock { $0 }
    }
}

/// For drivers that answer at once.
extension Store {
    package func read(_ key: StoreKey, within limit: TimeAmount) async throws(StoreError) -> StoredValue {
        try await read(key)
    }

    package func follow(_ replica: Incarnation, within limit: TimeAmount) async -> ReplicaObservation {
        await follow(replica)
    }
}

/// What reading one of many keys came to.
package typealias StoreReading = (key: StoreKey, value: Result<StoredValue, StoreError>)

package struct LeaseOptions: Sendable {
    /// A key whose generations are published under this lease.
    package var fencing: StoreKey?
    /// A holder that did not move for so long is taken for dead.
    package var timeToLive = TimeAmount.seconds(15)
    /// How long to wait for it.
    package var patience = TimeAmount.minutes(10)

    package init(fencing: StoreKey? = nil) {
        self.fencing = fencing
    }
}

/// A lease that this process holds, renewed until it is released, lost, or let go.
package protocol StoreLease: AnyObject, Sendable {
    /// The fencing token: higher than that of every holder before.
    var epoch: UInt64 { get }

    /// False as soon as somebody else may have it. Answers at once; proves nothing to others.
    var isHeld: Bool { get }

    /// Asks the store; to be called before every act under the lease.
    ///
    /// - Throws: `fenced` when it was lost.
    func check() async throws(StoreError)

    /// Gives it back, so that whoever waits need not wait for the time to live.
    func release() async
}

package struct JournalOptions: Sendable {
    /// Makes the name of this process, at the start and again whenever others took it for dead.
    package var incarnation: @Sendable () -> Incarnation
    /// What a replica says of itself beside its heartbeat, sealed; at most ``Volume/cardLimit`` bytes.
    package var card: @Sendable (Incarnation) -> [UInt8]
    /// Called with each new name after the first: the rows are published again under it already.
    package var onNewIncarnation: @Sendable (Incarnation) -> Void

    package init(
        incarnation: @escaping @Sendable () -> Incarnation,
        card: @escaping @Sendable (Incarnation) -> [UInt8],
        onNewIncarnation: @escaping @Sendable (Incarnation) -> Void = { _ in }
    ) {
        self.incarnation = incarnation
        self.card = card
        self.onNewIncarnation = onNewIncarnation
    }
}

/// The journal of this process. Calls return at once; the changes are durable and visible soon after.
package protocol StoreJournal: AnyObject, Sendable {
    var incarnation: Incarnation { get }

    /// - Parameters:
    ///   - key: at most ``JournalRecord/keyLimit`` bytes.
    ///   - value: at most ``JournalRecord/valueLimit`` bytes.
    func put(key: [UInt8], value: [UInt8])

    func remove(key: [UInt8])

    /// Changes what the heartbeat says: state, sessions, load, seen.
    func update(_ change: @escaping @Sendable (inout Heartbeat) -> Void)

    /// Counts one thing more as published, so that whoever follows this process looks at the store again.
    ///
    /// - Returns: the number of it. A replica whose heartbeat says that it has seen this one of ours, or a higher, has
    ///   looked after this call.
    func announce() -> UInt64

    /// What the options say of this incarnation is another thing now: the card is written anew.
    func renewCard()

    /// Returns when every change made before is durable, with the store's answer.
    ///
    /// - Parameter limit: how long to wait for that.
    /// - Throws: `stalled` when it took longer; it may still happen.
    func flush(within limit: TimeAmount) async throws(StoreError)
}

extension StoreJournal {
    package func flush() async throws(StoreError) { try await flush(within: .seconds(10)) }
}

/// What is known of a replica.
package struct ReplicaObservation: Sendable {
    /// The newest heartbeat and when it moved last; nil if none was ever read.
    package var pulse: LastHeartbeat?
    /// The last good view of its rows.
    package var view: ReplicaView?
    /// Why the look failed; nil if it did not.
    package var problem: StoreError?

    package init(pulse: LastHeartbeat?, view: ReplicaView?, problem: StoreError?) {
        self.pulse = pulse
        self.view = view
        self.problem = problem
    }
}
