import Certificates
import Cluster
import Logging
import NIOCore
import Store

/// Following `acme/challenges`. It costs one listing a second, and one read for each value that is new; all of them are
/// read once in ten seconds, and the ones that changed last whenever a replica has published something.
extension SharedChallenges {
    private static let interval = Duration.seconds(1)
    private static let readers = 8
    private static let linesAtMost = 3

    /// Follows the folder and reads for the listeners until the task is cancelled; call it once.
    package func run() async {
        let (wakes, wake) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
        barrier.onAnnouncement { wake.yield() }
        wake.yield()
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.http.run() }
            group.addTask {
                while !Task.isCancelled {
                    try? await Task.sleep(for: Self.interval)
                    wake.yield()
                }
            }
            var follower = ChallengeWatcher()
            for await _ in wakes { await look(&follower) }
            group.cancelAll()
        }
    }

    /// Looks once: hears first, looks then, and says last that it has.
    func look(_ follower: inout ChallengeWatcher) async {
        let heard = barrier.announcedChanges()
        let mark = table.mark
        do throws(StoreError) {
            let listed = try await store.list(ChallengeTask.prefix)
            let due = follower.begin(listed, isNews: heard != follower.heard, now: .now())
            for reading in await read(due) { follower.take(reading.key, reading.outcome, now: .now()) }
        } catch {
            // The state of the store is told by others.
            follower.failed()
            return
        }
        var isFull = follower.isTooMuch
        for task in follower.tasks where !table.take(task) { isFull = true }
        // What could not be read now may still be there.
        if follower.isComplete { table.drop(table.tasks.filter { follower.isOver($0) }, upTo: mark) }
        let problems = tellALPN()
        barrier.setUrgent(!table.isEmpty)
        if follower.isComplete {
            follower.heard = heard
            barrier.acknowledge(heard)
        }
        tell(follower.newProblems)
        for problem in problems { logger.debug("a challenge cannot be answered", metadata: ["error": "\(problem)"]) }
        if isFull, !follower.wasTold {
            logger.warning(
                "there are more ACME challenges than a replica answers",
                metadata: ["limit": "\(ChallengeTable.limit)", "key": "\(ChallengeTask.prefix)"]
            )
        }
        follower.wasTold = isFull
        await removeOld(&follower)
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

    private func removeOld(_ follower: inout ChallengeWatcher) async {
        for (key, version) in follower.old(now: .now()) {
            do throws(StoreError) {
                try await store.remove(key, expecting: version)
            } catch {
                // Another replica was faster, or somebody has touched it: the next look says which.
                if error.isTransient { return }
                guard error.code == .notFound else { continue }
            }
            follower.removed(key, now: .now())
            logger.debug("a challenge that nobody withdrew was taken out of the store", metadata: ["key": "\(key)"])
        }
    }

    /// Each value once, and of very many only some.
    private func tell(_ problems: [(key: StoreKey, reason: String)]) {
        for (key, reason) in problems.prefix(Self.linesAtMost) {
            logger.warning(
                "a value among the ACME challenges is not used",
                metadata: ["key": "\(key)", "error": "\(reason)"]
            )
        }
        let more = problems.count - Self.linesAtMost
        if more > 0 {
            logger.warning("more values among the ACME challenges are not used", metadata: ["count": "\(more)"])
        }
    }
}
