package import NIOCore
import Synchronization
package import Threads

/// The store on a volume that all replicas mount, or for a single replica on a ``MemoryFileSystem``.
///
/// ``Volume`` implements the rules as blocking calls that may hang; this class runs them on its own threads and gives
/// each caller a deadline. `perform(on:of:_:within:_:)` carries every call of the ``Store`` protocol to the volume:
/// - One *writer* thread makes all changes but those of a restore, in order, and is never replaced: while it hangs, the
///   state is `stalled`.
/// - A few *reader* threads do reads, listings and polls; while some hang, others are added.
/// - *Bulk* threads read thousands of values in parts, or create them for a restore: many at the same time on a volume
///   on which this takes long. No single read waits for them.
/// - One *timer* thread fires deadlines, renewals and polls, and touches no file.
///
/// The gateway creates one with ``open(path:mounted:options:)`` and calls ``close()`` at its end. Every method
/// may be called from any thread.
package final class VolumeStore: Store {
    /// The deadlines, intervals and sizes of a store.
    package struct Options: Sendable {
        /// The longest time that any call waits.
        package var callDeadline = TimeAmount.seconds(10)
        /// The time between two polls of a watched prefix.
        package var watchInterval = PrefixWatch.interval
        /// The time between two rounds of a collector.
        package var sweepInterval = TimeAmount.minutes(1)
        package var pace = JournalWriter.Pace()
        /// The name of this process in the records of its leases, for people.
        package var processName = LeaseRecord.processName
        /// The number of reader threads, and of bulk threads, while no job waits for long.
        package var readers = 2
        /// The highest number of reader threads: of each watch ``PrefixWatch/hungLimit`` may hang, and there are few
        /// watches.
        package var readersAtMost = 32
        /// The highest number of bulk threads.
        package var bulkThreadsAtMost = PrefixWatch.bulkLimit
        package var threadStarter: ThreadStarter = startThread

        package init() {}

        /// The number of bytes that have to be free for a full volume to count as healthy again: what a journal may
        /// need at once, not only one block.
        var requiredSpace: Int { Int(pace.logAllocationStep) + 65_536 }

        /// The options for a ``MemoryFileSystem``, whose journal no other process reads.
        package static var inMemory: Options {
            var options = Options()
            options.pace.oldFileRetention = .zero
            options.pace.logAllocationStep = 65_536
            return options
        }
    }

    /// The blocking calls, for commands and start-up.
    package let volume: Volume
    package let health: StoreHealth
    let options: Options
    let writer: BlockingWorkQueue
    let readers: BlockingWorkQueue
    let bulk: BlockingWorkQueue
    let timers: TimerThread
    let shared = Mutex(Shared())

    struct Shared {
        var isClosed = false
        var watches: [WatchSubscription] = []
        var members: MemberReader?
        var member: VolumeMember?
        /// The names that this process has had as a member, or begins to have.
        var ownNames: Set<Incarnation> = []
        var calls = ReaderCalls()
        /// The changes that the other members have announced in their heartbeats.
        var announced = Mark()
        /// The changes that all watches have delivered.
        var seen = Mark()
        /// The last announcement of removed keys; see ``settledRemovals(now:_:)``.
        var removals: (mark: Mark, at: NIODeadline)?
        /// Whether a probe for free space is queued or running.
        var isProbing = false
        var nextSpaceProbe = NIODeadline.uptimeNanoseconds(0)
        var operationHook: (@Sendable (StoreOperation, TimeAmount) -> Void)?
    }

    package init(volume: Volume, options: Options = Options()) {
        self.volume = volume
        self.options = options
        health = StoreHealth(now: volume.now(), requiredSpace: options.requiredSpace)
        let starter = options.threadStarter
        timers = TimerThread(name: "store-timer", starter: starter)
        writer = BlockingWorkQueue(name: "store-writer", usual: 1, limit: 1, queueLimit: 1_024, starter: starter)
        readers = BlockingWorkQueue(
            name: "store-reader",
            usual: options.readers,
            limit: options.readersAtMost,
            queueLimit: 4_096,
            starter: starter
        )
        bulk = BlockingWorkQueue(
            name: "store-bulk",
            usual: min(options.readers, options.bulkThreadsAtMost),
            limit: options.bulkThreadsAtMost,
            queueLimit: 4_096,
            patience: Self.bulkPatience,
            starter: starter
        )
        scheduleUpkeep()
        // Apart, because a round over thousands of kept keys may take ten minutes.
        scheduleSweep(GarbageCollector(volume: volume, kept: []))
        scheduleSweep(GarbageCollector(volume: volume, disposable: []))
    }

    deinit { close() }

    /// The time for which a part waits before a bulk thread is added: on a fast volume none waits so long.
    private static let bulkPatience = Duration.milliseconds(20)

    package var state: StoreState { health.state(now: .now()) }

    package func close() {
        let (watches, member) = shared.withLock { shared in
            defer {
                shared.watches = []
                shared.members = nil
                shared.member = nil
                shared.operationHook = nil
            }
            shared.isClosed = true
            return (shared.watches, shared.member)
        }
        for watch in watches { watch.cancel() }
        member?.close()
        timers.close()
        writer.close()
        readers.close()
        bulk.close()
    }
}

// MARK: Values

extension VolumeStore {
    package func read(_ key: StoreKey) async throws(StoreError) -> StoredValue {
        try await read(key, within: options.callDeadline)
    }

    package func read(_ key: StoreKey, within limit: TimeAmount) async throws(StoreError) -> StoredValue {
        try await perform(on: readers, of: key.path, .read, within: limit) { volume throws(StoreError) in
            try volume.read(key)
        }
    }

    package func earlier(_ key: StoreKey, within limit: TimeAmount) async throws(StoreError) -> [StoredValue] {
        try await perform(on: readers, of: key.path, .read, within: limit) { volume throws(StoreError) in
            try volume.earlier(key)
        }
    }

    package func readAll(
        _ prefix: StoreKey,
        _ deliver: @escaping @Sendable (_ part: [StoreReading], _ count: Int) -> Void
    ) async throws(StoreError) {
        let keys = try await perform(on: readers, of: prefix.path, .list) { volume throws(StoreError) in
            try volume.unsortedKeys(prefix)
        }
        try await inParts(keys, of: 64, "\(prefix)/*", .read) { volume, part throws(StoreError) in
            deliver(try volume.readAll(part, in: prefix), keys.count)
        }
    }

    package func createAll(
        _ keys: [StoreKey],
        content: @escaping @Sendable (StoreKey) throws(StoreError) -> [UInt8]
    ) async throws(StoreError) {
        try await inParts(keys, of: 8, Volume.temporaries, .write) { volume, part throws(StoreError) in
            try volume.createAll(part, content: content)
        }
    }

    /// Performs work on parts of keys on the bulk threads, several at the same time, until one fails.
    /// Throws `closed` if the task is cancelled before all of it is done.
    ///
    /// - Parameters:
    ///   - size: The number of keys of a part, which has to be done before a call's deadline even over a slow network.
    ///   - subject: The path of the folder that the work begins with; see ``ReaderCalls``.
    private func inParts(
        _ keys: [StoreKey],
        of size: Int,
        _ subject: String,
        _ operation: StoreOperation,
        _ body: @escaping @Sendable (Volume, ArraySlice<StoreKey>) throws(StoreError) -> Void
    ) async throws(StoreError) {
        let parts = stride(from: 0, to: keys.count, by: size).map { keys[$0..<min($0 + size, keys.count)] }
        let sequences = min(options.bulkThreadsAtMost, parts.count)
        let failure = await withTaskGroup(of: StoreError?.self) { group in
            for first in 0..<sequences {
                group.addTask {
                    do throws(StoreError) {
                        for index in stride(from: first, to: parts.count, by: sequences) {
                            // Some parts are missing. If another sequence has failed, its error is reported first.
                            guard !Task.isCancelled else { return Self.cancelled }
                            let part = parts[index]
                            try await self.perform(on: self.bulk, of: subject, operation) { volume throws(StoreError) in
                                try body(volume, part)
                            }
                        }
                        return nil
                    } catch {
                        return error
                    }
                }
            }
            var failure: StoreError?
            for await result in group {
                guard let result, failure == nil else { continue }
                failure = result
                group.cancelAll()
            }
            return failure
        }
        if let failure { throw failure }
    }

    package func list(_ prefix: StoreKey) async throws(StoreError) -> [StoreKey] {
        try await perform(on: readers, of: prefix.path, .list) { volume throws(StoreError) in try volume.keys(prefix) }
    }

    package func write(
        _ key: StoreKey,
        _ change: ValueWrite,
        under lease: (any StoreLease)?
    ) async throws(StoreError) -> UInt64 {
        guard let lease else {
            return try await write(key) { volume throws(StoreError) in try volume.write(key, change) }
        }
        guard let lease = lease as? VolumeLease else { preconditionFailure("a lease of another store") }
        return try await write(key) { _ throws(StoreError) in try lease.write(key, change) }
    }

    package func archive(_ replica: Incarnation) async throws(StoreError) {
        try await perform(on: writer) { volume throws(StoreError) in try volume.archive(replica) }
    }

    /// Changes a key on the writer's thread, records whether the volume had space, and announces the change: to peers
    /// by hint and heartbeat, to the own watches directly.
    private func write(
        _ key: StoreKey,
        _ body: @escaping @Sendable (Volume) throws(StoreError) -> UInt64
    ) async throws(StoreError) -> UInt64 {
        let health = health
        let result = try await perform(on: writer, .write) { volume throws(StoreError) in
            do throws(StoreError) {
                let result = try body(volume)
                health.recordWrite()
                return result
            } catch {
                health.recordWrite(error)
                throw error
            }
        }
        shared.withLock { $0.member }?.recordWrite()
        refresh(key)
        return result
    }
}
