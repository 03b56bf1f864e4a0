package import NIOCore

/// A change of a key's newest version or generation.
package struct StoreChange: Hashable, Sendable {
    /// The newest version or generation of a key.
    package enum Revision: Hashable, Sendable {
        case version(UInt64)
        case generation(Generation)
    }

    package let key: StoreKey
    /// The newest version or generation, which may be a tombstone, or `nil` if the key's folder is gone.
    package let newest: Revision?

    package init(key: StoreKey, newest: Revision?) {
        self.key = key
        self.newest = newest
    }
}

/// Watches the keys one level below a prefix by polling. Neither inotify nor modification times are used, because
/// network file systems do not implement them reliably.
///
/// The owner calls ``poll()`` once per ``interval``, and again at once while ``needsImmediatePoll`` is set;
/// ``enqueue(_:)`` adds a key that a peer has announced. A poll does three things:
/// - It reads the hints of ``Volume/writeHint(for:)`` (one listing) and inspects the keys that they name.
/// - It inspects again the keys that failed in the last poll.
/// - It inspects one slice of a *round*, in which every key is inspected. However many keys there are and however slow
///   the volume is, a hinted key waits for one slice at most.
///
/// Slices take at most a tenth of the time, and a round starts once a second at most. The first round, and one after
/// missed hints, runs without pauses. Confined to one thread at a time; creates no threads and no timers.
package final class PrefixWatch {
    /// The time between two polls.
    package static let interval = TimeAmount.seconds(1)
    /// The factor by which a slice's duration is multiplied to get the time until the next slice.
    static let pauseFactor: Int64 = 10
    /// The time after which a poll inspects no further keys of its round: with its other calls a tenth of two seconds.
    static let sliceTime = TimeAmount.milliseconds(180)
    /// The time after which a poll inspects no further keys that failed before.
    static let retryTime = TimeAmount.milliseconds(100)
    /// The number of keys of each queue that a poll inspects even if it takes longer, so that a slow call does not stop
    /// all progress.
    static let minimumKeys = 16
    /// The highest number of hinted keys per poll; the others wait for the next poll, which follows at once.
    static let hintedKeysPerPoll = 256
    /// The shortest time between the two lookups after which a missing folder counts as removed.
    static let secondLookupDelay = TimeAmount.milliseconds(500)
    /// The highest number of queued hinted keys; beyond it a full round replaces them.
    private static let hintedKeyLimit = 65_536

    package let prefix: StoreKey
    private let volume: Volume
    /// The newest version or generation of each key, as reported.
    private var known: [StoreKey: StoreChange.Revision] = [:]
    /// The keys that were hinted at or announced and not inspected since.
    private var hinted = KeyQueue()
    /// The keys that could not be read last time, or whose folder was not found once.
    private var retries = KeyQueue()
    /// The keys that remain in the current round.
    private var round = KeyQueue()
    /// Whether the current round runs without pauses.
    private var isUrgent = false
    /// Whether hints were missed, so that a full round has to start.
    private var needsFullRound = false
    /// The keys whose folder was not found, and when that was first seen.
    private var missing: [StoreKey: NIODeadline] = [:]
    /// The number of the newest hint that was read, or `nil` before the first poll.
    private var newestHint: UInt64?
    private var nextSlice = NIODeadline.uptimeNanoseconds(0)
    /// The keys whose last inspection failed, and the error.
    package private(set) var problems: [StoreKey: StoreError] = [:]

    package init(volume: Volume, prefix: StoreKey) {
        self.volume = volume
        self.prefix = prefix
    }

    /// Whether the next poll should follow at once.
    package var needsImmediatePoll: Bool { !hinted.isEmpty || isUrgent && !round.isEmpty }

    /// Adds a key that a peer has announced as changed; the next poll inspects it.
    package func enqueue(_ key: StoreKey) {
        guard key.parent == prefix else { return }
        guard hinted.count < Self.hintedKeyLimit else { return needsFullRound = true }
        hinted.append(key)
    }

    /// Polls once. Returns the changes that were found; the polls of the first round return every key.
    ///
    /// - Throws: The failure to list the prefix itself; no key counts as removed then.
    package func poll() throws(StoreError) -> [StoreChange] {
        let began = volume.now()
        if try readHints() { needsFullRound = true }
        let isDue = began >= nextSlice
        if needsFullRound || isDue && round.isEmpty {
            round.extend(by: try allKeys())
            isUrgent = needsFullRound
            needsFullRound = false
        }
        var changes: [StoreChange] = []
        // Keys that fail now are inspected again by the next poll, not by this one.
        let retryCount = retries.count
        inspect(\.hinted, atMost: Self.hintedKeysPerPoll, until: .distantFuture, &changes)
        inspect(\.retries, atMost: retryCount, until: began + Self.retryTime, &changes)
        if isDue || isUrgent {
            inspect(\.round, atMost: .max, until: began + Self.sliceTime, &changes)
            if round.isEmpty { isUrgent = false }
            let cost = volume.now() - began
            let pause = max(Self.interval, .nanoseconds(cost.nanoseconds * Self.pauseFactor))
            nextSlice = began + pause - .milliseconds(1)
        }
        return changes.sorted { $0.key < $1.key }
    }

    /// Inspects keys from a queue until a limit is reached.
    private func inspect(
        _ queue: ReferenceWritableKeyPath<PrefixWatch, KeyQueue>,
        atMost limit: Int,
        until end: NIODeadline,
        _ changes: inout [StoreChange]
    ) {
        var count = 0
        while count < limit, count < Self.minimumKeys || volume.now() < end, let key = self[keyPath: queue].next() {
            count += 1
            if let change = inspect(key) { changes.append(change) }
        }
    }

    private func inspect(_ key: StoreKey) -> StoreChange? {
        do throws(StoreError) {
            let revision = try newestRevision(of: key)
            problems[key] = nil
            guard let revision else { return isGone(key) ? StoreChange(key: key, newest: nil) : nil }
            missing[key] = nil
            guard known[key] != revision else { return nil }
            known[key] = revision
            return StoreChange(key: key, newest: revision)
        } catch {
            problems[key] = error
            retries.append(key)
            return nil
        }
    }

    /// Whether a folder counts as gone: two consecutive lookups, not right after each other, did not find it.
    private func isGone(_ key: StoreKey) -> Bool {
        guard known[key] != nil else { return false }
        let now = volume.now()
        guard let since = missing[key], now - since >= Self.secondLookupDelay else {
            missing[key] = missing[key] ?? now
            retries.append(key)
            return false
        }
        missing[key] = nil
        known[key] = nil
        return true
    }

    /// Reads new hints. Returns whether hints were missed, so that every key has to be inspected.
    private func readHints() throws(StoreError) -> Bool {
        let numbers = try volume.hintNumbers(prefix.path)
        let newest = numbers.last ?? 0
        defer { newestHint = newest }
        guard let before = newestHint else { return true }
        guard newest != before else { return false }
        guard newest > before, newest - before <= Volume.hintsKept / 2 else { return true }
        for number in before + 1...newest {
            guard let name = volume.hint(prefix.path, number), let key = try? prefix.child(name) else { return true }
            hinted.append(key)
        }
        return false
    }

    private func allKeys() throws(StoreError) -> Set<StoreKey> {
        var keys = Set(known.keys)
        guard let names = try volume.namesIfPresent(in: prefix.path) else {
            // A prefix is never removed, so its absence is a failure.
            guard keys.isEmpty else {
                throw StoreError(
                    .gone,
                    volume.displayPath(prefix.path),
                    "has disappeared; the last known values stay in use"
                )
            }
            return []
        }
        for name in names { keys.insert(try prefix.child(name)) }
        return keys
    }

    private func newestRevision(of key: StoreKey) throws(StoreError) -> StoreChange.Revision? {
        let names: [String]
        do {
            names = try volume.names(in: key.path, fresh: true)
        } catch {
            guard error.code == .notFound else { throw error }
            guard let again = try volume.namesIfPresent(in: key.path) else { return nil }
            names = again
        }
        if let version = names.lazy.compactMap({ VersionName.version($0, key: key) }).max() { return .version(version) }
        return names.lazy.compactMap { Generation($0) }.max().map { .generation($0) }
    }
}
