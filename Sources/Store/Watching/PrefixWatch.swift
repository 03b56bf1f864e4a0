package import NIOCore

/// Watches keys by polling, and reads what has changed. Neither inotify nor modification times are used, because network
/// file systems do not implement them reliably.
///
/// The owner calls ``poll()`` once per ``interval``; ``enqueue(_:)`` adds a key that was changed by this process. A poll
/// makes keys due:
/// - It reads the hints of ``Volume/writeHint(for:)`` (one listing), which name keys.
/// - It adds some of the keys that failed before, or whose value the user could not use.
/// - It lists the versions of one slice of a *round*, which covers every key, and adds those that have changed.
///
/// Slices take at most a tenth of the time, and a round starts once a second at most. The first round, and one after
/// missed hints, is urgent: its keys are not listed, but read.
///
/// Keys that are due or of an urgent round are read in parts, which ``nextPart()`` returns, on as many threads as the
/// owner likes. A key that is due is a part of its own, so that a value that hangs delays no other key. Each batch of
/// findings is delivered and then reported with ``finish(_:rejecting:)``.
///
/// Confined to one thread at a time except for ``WatchPart/read()``; creates no threads and no timers.
package final class PrefixWatch {
    /// The time between two polls.
    package static let interval = TimeAmount.seconds(1)
    /// The factor by which a slice's duration is multiplied to get the time until the next slice.
    static let pauseFactor: Int64 = 10
    /// The time after which a poll inspects no further keys of its round: with its other calls a tenth of two seconds.
    static let sliceTime = TimeAmount.milliseconds(180)
    /// The number of keys of a slice that a poll lists even if it takes longer, so that a slow call does not stop all
    /// progress.
    static let minimumKeys = 16
    /// The number of keys that failed before and are due after a poll.
    static let retriesPerPoll = 32
    /// The number of keys of a part: few enough that a file that hangs holds up few others.
    static let partSize = 16
    /// The shortest time between the two lookups after which a missing folder counts as removed.
    static let secondLookupDelay = TimeAmount.milliseconds(500)
    /// The highest number of queued hinted keys; beyond it a full round replaces them.
    private static let hintedKeyLimit = 65_536

    /// The delivered state of a key.
    private struct Known: Equatable {
        var version: UInt64
        /// The bytes, if the watch is of one key.
        var bytes: [UInt8]?
        var isRemoved = false
        /// Whether the user could not use the value, so that it is delivered again.
        var isRejected = false
    }

    package let scope: WatchScope
    private let volume: Volume
    private let isDisposable: Bool
    private var known: [StoreKey: Known] = [:]
    /// The keys that were hinted at or enqueued and not inspected since.
    private var hinted = KeyQueue()
    /// The keys that could not be read or used last time, or whose folder was not found once.
    private var retries = KeyQueue()
    /// The keys that remain in the current round.
    private var round = KeyQueue()
    /// The keys that are read next, each as a part.
    private var due = KeyQueue()
    /// Whether the current round is read in parts.
    private var isUrgent = false
    /// Whether hints were missed, so that a full round has to start.
    private var needsFullRound = true
    /// The keys whose findings are being read or delivered. No other inspection of them starts meanwhile.
    private var inFlight: Set<StoreKey> = []
    /// The keys that became due while they were in flight, and are read again.
    private var postponed: Set<StoreKey> = []
    /// The keys that failed in their last inspection, but not in the one before.
    private var unsettled: Set<StoreKey> = []
    /// The keys whose folder was not found, and when that was first seen.
    private var missing: [StoreKey: NIODeadline] = [:]
    /// The number of the newest hint that was read, or `nil` before the first poll.
    private var newestHint: UInt64?
    private var nextSlice = NIODeadline.uptimeNanoseconds(0)
    private var hasListed = false
    /// Whether every key of the first round was delivered or could not be read twice.
    package private(set) var isComplete = false
    /// The keys whose last inspection failed, and the error.
    package private(set) var problems: [StoreKey: StoreError] = [:]

    /// - Parameter isDisposable: Whether all keys below the prefix may vanish at once. Otherwise an empty prefix stands
    ///   for a volume that is not mounted.
    package init(volume: Volume, scope: WatchScope, isDisposable: Bool = false) {
        self.volume = volume
        self.scope = scope
        self.isDisposable = isDisposable
    }

    /// Whether everything that the last poll knew of as changed was delivered.
    package var isCurrent: Bool {
        isComplete && hinted.isEmpty && due.isEmpty && !isUrgent && inFlight.isEmpty && unsettled.isEmpty
    }

    /// Adds a key that has changed; the next poll inspects it.
    package func enqueue(_ key: StoreKey) {
        guard scope.contains(key) else { return }
        guard hinted.count < Self.hintedKeyLimit else { return needsFullRound = true }
        hinted.append(key)
    }

    // MARK: Polling

    /// Polls once.
    ///
    /// - Throws: The failure to list the prefix itself; no key counts as removed then.
    package func poll() throws(StoreError) {
        let began = volume.now()
        if try readHints() { needsFullRound = true }
        let isDue = began >= nextSlice
        // While the parts of the first round are being read, which may take longer than the interval, no other begins:
        // it would postpone the completion, without end if there are many keys.
        if needsFullRound || isDue && round.isEmpty && (isComplete || inFlight.isEmpty) {
            round.extend(by: try allKeys())
            isUrgent = needsFullRound
            needsFullRound = false
            hasListed = true
        }
        // Keys that fail now are due again after the next poll, not after this one.
        for _ in 0..<min(retries.count, Self.retriesPerPoll) { retries.next().map { due.append($0) } }
        while let key = hinted.next() { due.append(key) }
        if isDue, !isUrgent { listSlice(began) }
    }

    /// Lists the versions of keys of the round until a slice's time is over.
    private func listSlice(_ began: NIODeadline) {
        var count = 0
        while count < Self.minimumKeys || volume.now() < began + Self.sliceTime, let key = round.next() {
            count += 1
            let newest = try? volume.versions(key, fresh: true).last
            if newest == nil || newest != knownVersion(key) || problems[key] != nil { due.append(key) }
        }
        let pause = max(Self.interval, .nanoseconds((volume.now() - began).nanoseconds * Self.pauseFactor))
        nextSlice = began + pause - .milliseconds(1)
    }

    /// Takes the next part, or returns `nil` if no key is due and nothing is left of an urgent round.
    package func nextPart() -> WatchPart? {
        while let key = due.next() {
            guard inFlight.insert(key).inserted else {
                // It may have changed since it was read.
                postponed.insert(key)
                continue
            }
            return WatchPart(volume: volume, prefix: nil, keys: [(key, knownVersion(key))])
        }
        guard isUrgent else { return nil }
        var keys: [(StoreKey, UInt64?)] = []
        while keys.count < Self.partSize, let key = round.next() {
            // A key in flight has just been inspected.
            if inFlight.insert(key).inserted { keys.append((key, knownVersion(key))) }
        }
        if keys.isEmpty {
            isUrgent = false
            completeIfDone()
            return nil
        }
        guard case .below(let prefix) = scope else { return WatchPart(volume: volume, prefix: nil, keys: keys) }
        return WatchPart(volume: volume, prefix: prefix, keys: keys)
    }

    /// Gives a part back that was not read.
    package func cancel(_ part: WatchPart) {
        for (key, _) in part.keys { land(key) }
        round.extend(by: Set(part.keys.map(\.key)))
        isUrgent = true
    }

    /// Records the findings of a part and returns the changes.
    package func record(_ findings: [(key: StoreKey, finding: KeyFinding)]) -> [WatchedChange] {
        let changes = findings.compactMap { record($0.key, $0.finding) }
        let changed = Set(changes.map(\.key))
        for (key, _) in findings where !changed.contains(key) { land(key) }
        completeIfDone()
        return changes
    }

    /// Records that changes were delivered.
    ///
    /// - Parameter rejected: The keys whose values could not be used.
    package func finish(_ changes: [WatchedChange], rejecting rejected: [StoreKey]) {
        for change in changes { land(change.key) }
        for key in rejected where known[key] != nil {
            known[key]?.isRejected = true
            retries.append(key)
        }
        completeIfDone()
    }

    /// Ends the inspection of a key, and makes it due again if it may have changed meanwhile.
    private func land(_ key: StoreKey) {
        inFlight.remove(key)
        if postponed.remove(key) != nil { due.append(key) }
    }

    private func completeIfDone() {
        guard !isComplete, hasListed, round.isEmpty, inFlight.isEmpty, unsettled.isEmpty else { return }
        isComplete = true
    }

    // MARK: Keys

    /// The version whose file need not be read again.
    private func knownVersion(_ key: StoreKey) -> UInt64? {
        guard !keepsBytes, let known = known[key], !known.isRejected else { return nil }
        return known.version
    }

    /// Whether a value is compared by its bytes, not by its version.
    private var keepsBytes: Bool { if case .only = scope { true } else { false } }

    private func record(_ key: StoreKey, _ finding: KeyFinding) -> WatchedChange? {
        let content = content(key, finding)
        guard let content else { return nil }
        inFlight.insert(key)
        return WatchedChange(key: key, content: content)
    }

    private func content(_ key: StoreKey, _ finding: KeyFinding) -> WatchedChange.Content? {
        if case .failure(let error) = finding {
            let before = problems.updateValue(error, forKey: key)
            retries.append(key)
            if before == nil, error.isTransient { unsettled.insert(key) } else { unsettled.remove(key) }
            // A volume that does not respond is part of the store's state, not a problem of a key.
            return error.isTransient || before == error ? nil : .unreadable(error)
        }
        problems[key] = nil
        unsettled.remove(key)
        guard case .success(let state?) = finding else { return isGone(key) ? .removed(version: nil) : nil }
        missing[key] = nil
        switch state {
        case .known: return nil
        case .removed(let version):
            known[key] = Known(version: version, isRemoved: true)
            return .removed(version: version)
        case .value(let stored):
            let new = Known(version: stored.version, bytes: keepsBytes ? stored.bytes : nil)
            guard !keepsBytes || known[key] != new else { return nil }
            known[key] = new
            return .value(stored)
        }
    }

    /// Whether a folder counts as gone: two lookups, not right after each other, did not find it, and other keys are
    /// there. The folder of a removed key is expected to go.
    private func isGone(_ key: StoreKey) -> Bool {
        guard let before = known[key] else { return false }
        if before.isRemoved {
            known[key] = nil
            return true
        }
        let now = volume.now()
        guard let since = missing[key], now - since >= Self.secondLookupDelay, isMounted else {
            missing[key] = missing[key] ?? now
            retries.append(key)
            return false
        }
        missing[key] = nil
        known[key] = nil
        return true
    }

    /// Whether the prefix is there, and other keys in it: the absence of all keys means that another volume is mounted.
    private var isMounted: Bool {
        guard case .below(let prefix) = scope else { return true }
        guard let names = try? volume.namesIfPresent(in: prefix.path) else { return false }
        return isDisposable || !names.isEmpty
    }

    /// Reads new hints. Returns whether hints were missed, so that every key has to be inspected.
    private func readHints() throws(StoreError) -> Bool {
        guard case .below(let prefix) = scope else { return false }
        let numbers = try volume.hintNumbers(prefix.path)
        let newest = numbers.last ?? 0
        guard let before = newestHint else {
            newestHint = newest
            return true
        }
        defer { newestHint = newest }
        guard newest != before else { return false }
        guard newest > before, newest - before <= Volume.hintsKept / 2 else { return true }
        for number in before + 1...newest {
            guard let name = volume.hint(prefix.path, number), let key = try? prefix.child(name) else { return true }
            hinted.append(key)
        }
        return false
    }

    private func allKeys() throws(StoreError) -> Set<StoreKey> {
        guard case .below(let prefix) = scope else {
            if case .only(let key) = scope { return [key] }
            return []
        }
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
        for name in names { keys.insert(prefix.child(listed: name)) }
        return keys
    }
}

/// Some keys, to be read on any thread.
package struct WatchPart: Sendable {
    let volume: Volume
    let prefix: StoreKey?
    let keys: [(key: StoreKey, known: UInt64?)]

    package func read() -> [(key: StoreKey, finding: KeyFinding)] {
        let folder = prefix.flatMap { try? volume.files.openFolder($0.path) }
        return keys.map { ($0.key, volume.inspect($0.key, known: $0.known, in: folder)) }
    }
}
