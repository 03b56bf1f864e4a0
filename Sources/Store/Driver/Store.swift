package import NIOCore
import Synchronization

/// The state that the replicas of a gateway share. Users of the store depend on this protocol only.
///
/// The store has four parts. Values, leases and watches have keys; members have names of their own:
/// - *Values*: small documents with a version number each. A ``ValueWrite`` that names the version it replaces or
///   removes succeeds for one of several concurrent writers, and the others get `conflict`; one that names none applies
///   to the newest version.
/// - *Leases*: of the processes that wait for one, one holds it at a time; a write under it is fenced.
/// - *Watches*: ``watch(_:_:)`` delivers values and every change of them; see ``WatchedValues``.
/// - *Members*: one per process that has joined: a status and rows, which it alone writes and the others observe.
///
/// A process opens one store at start-up, joins once, and closes the store at its end. All methods may be
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

    /// Returns the versions before the newest that the store has kept, the newest first, for a value that cannot be
    /// used because it is damaged: none that is older than a removal or cannot be read. Waits at most `limit`.
    func earlier(_ key: StoreKey, within limit: TimeAmount) async throws(StoreError) -> [StoredValue]

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

    /// Creates the first versions of thousands of keys, for a restore: several at the same time, all of them durable
    /// when the call returns. A call that failed can be repeated: a first version with the same content is accepted.
    /// Watches find the values when they inspect all keys.
    ///
    /// - Parameter content: Returns the value of a key. Called concurrently on several threads of the store, for few
    ///   keys at a time.
    /// - Throws: `exists` if a key has or had another value.
    func createAll(
        _ keys: [StoreKey],
        content: @escaping @Sendable (StoreKey) throws(StoreError) -> [UInt8]
    ) async throws(StoreError)

    /// Watches keys: first everything that exists is delivered, then each change within two seconds. Of several changes
    /// of a key in a short time only the last may be delivered. Users decode and keep values with ``WatchedValues``.
    func watch(_ scope: WatchScope, _ deliver: @escaping WatchDelivery) -> StoreWatch

    /// Waits for a lease and acquires it. Called only when there is work to do under it.
    ///
    /// - Throws: `stalled` if another process held it for as long as ``LeaseOptions/patience``, the last failure if the
    ///   store could not be read then, `closed` if the task was cancelled.
    func lease(_ name: StoreKey, _ options: LeaseOptions) async throws(StoreError) -> any StoreLease

    /// Makes this process a member. Called once per store, after the watches have begun.
    func join(_ options: JoinOptions) async throws(StoreError) -> any StoreMember

    /// Observes the other members, each at its own pace: one whose files hang delays no other. Called once per store.
    func observeMembers(_ deliver: @escaping @Sendable (MemberEvent) -> Void) -> MemberObservation

    /// Archives a dead member. A member that is alive after all joins again under a new incarnation.
    func archive(_ member: Incarnation) async throws(StoreError)

    /// Returns a key of the cluster that the store holds, or `nil` if it is mounted or lost.
    ///
    /// - Parameter document: The version of cluster.json that names it, for messages.
    func clusterKey(_ id: String, namedBy document: String) async throws(StoreError) -> ClusterKey?

    /// Writes a key of the cluster, which is durable before any document names it. A key that exists is left as it is.
    func createClusterKey(_ key: ClusterKey) async throws(StoreError)

    /// Deletes a key of the cluster that no document names any more.
    func removeClusterKey(_ id: String) async throws(StoreError)

    /// The current condition of the store. Returns at once.
    var state: StoreState { get }

    /// The observations about the store's condition, for reports. Returns at once.
    var diagnostics: StoreDiagnostics { get }

    /// Sets a closure that is called after each operation, successful or not, with its duration, on a thread of the
    /// store.
    func onOperation(_ body: @escaping @Sendable (StoreOperation, TimeAmount) -> Void)

    /// Tests what the store's medium supports.
    func selfTest() async throws(StoreError) -> SelfTestReport

    /// Closes the store: stops its threads, ends its watches and stops renewing its leases. Returns at once;
    /// pending calls fail with `closed`.
    func close()
}

extension Store {
    /// Creates, replaces or removes a value that no lease protects.
    @discardableResult
    package func write(_ key: StoreKey, _ change: ValueWrite) async throws(StoreError) -> UInt64 {
        try await write(key, change, under: nil)
    }

    /// Returns the newest version of a value, or `nil` if there is none.
    package func readIfPresent(_ key: StoreKey) async throws(StoreError) -> StoredValue? {
        do {
            return try await read(key)
        } catch {
            guard error.code == .notFound else { throw error }
            return nil
        }
    }

    /// Creates or replaces a value, regardless of the present one, which may be damaged. Of several writers at the same
    /// time the last one wins. Returns the version that has the bytes.
    @discardableResult
    package func put(
        _ key: StoreKey,
        _ bytes: [UInt8],
        under lease: (any StoreLease)? = nil
    ) async throws(StoreError) -> UInt64 {
        try await retrying(key) { () throws(StoreError) in try await write(key, .put(bytes), under: lease) }
    }

    /// Reads values and writes what follows from them, and repeats that while other writers interfere.
    ///
    /// - Parameters:
    ///   - key: The key that is written, for the error.
    ///   - change: Throws a conflict to be repeated.
    package func retrying<Result>(
        _ key: StoreKey,
        _ change: () async throws(StoreError) -> Result
    ) async throws(StoreError) -> Result {
        for _ in 0..<16 {
            do throws(StoreError) {
                return try await change()
            } catch {
                guard error.isConflict else { throw error }
            }
        }
        throw StoreError(.busy, key.path, "is changed too often by other writers; try again")
    }

    /// Removes the newest version of a value. Returns whether there was one.
    @discardableResult
    package func removeIfPresent(
        _ key: StoreKey,
        under lease: (any StoreLease)? = nil
    ) async throws(StoreError) -> Bool {
        do {
            try await write(key, .remove(nil), under: lease)
            return true
        } catch {
            guard error.code == .notFound else { throw error }
            return false
        }
    }

    /// Reads all values one level below a prefix, in no particular order.
    package func readAll(_ prefix: StoreKey) async throws(StoreError) -> [StoreReading] {
        let all = Mutex<[StoreReading]>([])
        try await readAll(prefix) { part, _ in all.withLock { $0 += part } }
        return all.withLock { $0 }
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

extension StoreLease {
    /// Performs work under the lease and then releases it, also if the work fails.
    package func perform<Result, Failure: Error>(
        _ work: () async throws(Failure) -> Result
    ) async throws(Failure) -> Result {
        do throws(Failure) {
            let result = try await work()
            await release()
            return result
        } catch {
            await release()
            throw error
        }
    }
}
