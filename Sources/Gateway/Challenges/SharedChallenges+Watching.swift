import ACME
import Certificates
import Cluster
import Logging
import NIOCore
import Store
import Threads

/// Polling `acme/challenges`. A poll, once a second, costs one listing and one read for each new value. All values are
/// read every ten seconds, and those that changed last after each announcement of a replica.
extension SharedChallenges {
    private static let interval = Duration.seconds(1)
    private static let readers = 8
    /// The number of unusable values that one poll logs individually.
    private static let problemLimit = 3

    /// Polls the folder, and reads the values that ``HTTPChallenges`` asks for, until the task is cancelled. Called once.
    package func run() async {
        let signal = AsyncSignal()
        barrier.onAnnouncement { signal.send() }
        signal.send()
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.http.run() }
            group.addTask {
                while !Task.isCancelled {
                    try? await Task.sleep(for: Self.interval)
                    signal.send()
                }
            }
            var watcher = ChallengeWatcher()
            while await signal.wait() { await poll(&watcher) }
            group.cancelAll()
        }
    }

    /// Polls the folder once. The announcements are read before the folder and acknowledged at the end, so
    /// that an acknowledgement always covers what the announcing replica had written.
    func poll(_ watcher: inout ChallengeWatcher) async {
        let changes = barrier.announcedChanges()
        let sequence = table.latestSequence
        do throws(StoreError) {
            let listed = try await store.list(ChallengeTask.prefix)
            let due = watcher.beginPoll(listed, afterAnnouncement: changes != watcher.processedChanges, now: .now())
            for reading in await read(due) { watcher.record(reading.key, reading.outcome, now: .now()) }
        } catch {
            // The state of the store is logged by StoreStateMonitor.
            watcher.listingFailed()
            return
        }
        var isFull = watcher.isTruncated
        for task in watcher.tasks where !table.insert(task) { isFull = true }
        // After an incomplete poll, a challenge that was not read may still exist. Challenges that were inserted while
        // the folder was being read may be missing from the listing.
        if watcher.isComplete { table.remove(table.tasks.filter { watcher.isWithdrawn($0) }, upTo: sequence) }
        let problems = updateALPN()
        barrier.setUrgent(!table.isEmpty)
        if watcher.isComplete {
            watcher.processedChanges = changes
            barrier.acknowledge(changes)
        }
        log(watcher.newProblems)
        for problem in problems { logger.debug("challenge not answered", metadata: ["error": "\(problem)"]) }
        if isFull, !watcher.didLogOverflow {
            logger.warning(
                "too many ACME challenges for one replica",
                metadata: ["limit": "\(ChallengeTable.limit)", "key": "\(ChallengeTask.prefix)"]
            )
        }
        watcher.didLogOverflow = isFull
        await removeExpired(&watcher)
    }

    private struct Reading: Sendable {
        let key: StoreKey
        let outcome: Result<StoredValue, StoreError>
    }

    private func read(_ keys: [StoreKey]) async -> [Reading] {
        await withTaskGroup(of: Reading.self) { group in
            var found: [Reading] = []
            for (index, key) in keys.enumerated() {
                if index >= Self.readers, let one = await group.next() { found.append(one) }
                group.addTask { await self.read(key) }
            }
            for await one in group { found.append(one) }
            return found
        }
    }

    private func read(_ key: StoreKey) async -> Reading {
        let outcome: Result<StoredValue, StoreError>
        do throws(StoreError) {
            outcome = .success(try await store.read(key))
        } catch {
            outcome = .failure(error)
        }
        return Reading(key: key, outcome: outcome)
    }

    private func removeExpired(_ watcher: inout ChallengeWatcher) async {
        for (key, version) in watcher.expired(now: .now()) {
            do throws(StoreError) {
                try await store.write(key, .remove(version))
            } catch {
                // Otherwise another replica has removed or replaced the value: the next poll shows which.
                if error.isTransient { return }
                guard error.code == .notFound else { continue }
            }
            watcher.recordRemoval(of: key, now: .now())
            logger.debug("expired challenge removed from the store", metadata: ["key": "\(key)"])
        }
    }

    /// Logs each unusable value once. If one poll finds many, only the first few are logged individually.
    private func log(_ problems: [(key: StoreKey, reason: String)]) {
        for (key, reason) in problems.prefix(Self.problemLimit) {
            logger.warning("ACME challenge value unusable", metadata: ["key": "\(key)", "error": "\(reason)"])
        }
        let more = problems.count - Self.problemLimit
        if more > 0 {
            logger.warning("more ACME challenge values unusable", metadata: ["count": "\(more)"])
        }
    }
}
