package import NIOCore

/// Watches keys by polling, and reads what has changed. Neither inotify nor modification times are used, because
/// network file systems do not implement them reliably.
///
/// The owner calls ``poll(after:volumeAnswers:)`` once per ``interval``; ``enqueue(_:)`` adds a key that this process
/// has changed. Neither touches the volume. What has to be read is taken in parts with ``nextPart()`` and read on as
/// many threads as the owner likes:
/// - the hints of ``Volume/writeHint(for:)``, which name changed keys, once per poll;
/// - each key that is due: hinted, enqueued, or not readable or usable before;
/// - the names below the prefix and then, a few at a time, all keys: a *round*. Rounds take at most a tenth of the
///   time, and begin once a second at most. The first one, and one after missed hints, is urgent: it begins at once and
///   goes on without a pause, in several parts at the same time.
///
/// Findings are recorded with ``record(_:of:)``; the changes are delivered and then reported with
/// ``finish(_:rejecting:)``.
///
/// A call that hangs holds up one file: other parts read the other keys of its part, and its key counts as unreadable
/// until the call returns. Beyond ``hungLimit`` such calls nothing more is read, so few threads hang.
///
/// Confined to one thread at a time except for ``WatchPart/read()``; creates no threads and no timers.
package final class PrefixWatch {
    /// The time between two polls.
    package static let interval = TimeAmount.seconds(1)
    /// The factor by which a slice's duration is multiplied to get the time until the next slice.
    static let pauseFactor: Int64 = 10
    /// The time after which no further part of a round is read: with the other calls a tenth of two seconds.
    static let sliceTime = TimeAmount.milliseconds(180)
    /// The number of keys that failed before and are due after a poll.
    static let retriesPerPoll = 32
    /// The number of keys of a part, and of a part of an urgent round, whose threads would else wait for one another.
    static let partSize = 16
    static let bulkPartSize = 64
    /// The highest number of parts that are read at the same time, besides those of an urgent round.
    static let partLimit = 12
    /// The highest number of parts of an urgent round that are read at the same time: as many as there may be bulk
    /// readers.
    static let bulkLimit = 16
    /// The number of hanging calls beyond which no further part is read.
    static let hungLimit = 4
    /// The shortest time between the two lookups after which a missing folder counts as removed.
    static let secondLookupDelay = TimeAmount.milliseconds(500)
    /// The time after which the folder of a removed key may have been deleted. The collector waits for longer after all
    /// members have found the removal.
    static let removalAge = TimeAmount.nanoseconds(GarbageCollector.removalAge.nanoseconds / 2)
    /// The highest number of due keys; beyond it a full round replaces them.
    private static let dueLimit = 65_536

    /// The delivered state of a key.
    private struct Known: Equatable {
        var version: UInt64
        /// The bytes, if the watch is of one key.
        var bytes: [UInt8]?
        /// The time at which the value was found to be removed, the earliest if that was the first inspection of the
        /// key; `nil` unless it is removed.
        var removed: NIODeadline?
        /// Whether the user could not use the value, so that it is delivered again.
        var isRejected = false
    }

    package let scope: WatchScope
    private let volume: Volume
    /// Whether the folders of removed keys below the prefix are deleted at once.
    private let isDisposable: Bool
    private var known: [StoreKey: Known] = [:]
    /// The keys that could not be read or used last time, or whose folder was not found once.
    private var retries = KeyQueue()
    /// The keys that remain in the current round.
    private var round = KeyQueue()
    /// The keys that are read next, each as a part.
    private var due = KeyQueue()
    /// Whether the current round goes on without a pause.
    private var isUrgent = false
    /// Whether hints were missed, so that a full round has to start.
    private var needsFullRound = true
    /// Whether the names were listed, of the present volume.
    private var hasListed = false
    private var needsHints = false
    private var needsNames = false
    /// The parts that are being read.
    private var reading: [WatchPart] = []
    /// The keys whose findings are being read or delivered. No other inspection of them starts meanwhile.
    private var inFlight: Set<StoreKey> = []
    /// The keys that became due while they were in flight, and are read again.
    private var postponed: Set<StoreKey> = []
    /// The keys whose reading hangs.
    private var hung: Set<StoreKey> = []
    /// The keys that failed in their last inspection, but not in the one before.
    private var unsettled: Set<StoreKey> = []
    /// The keys whose folder was not found, and when that was first seen.
    private var missing: [StoreKey: NIODeadline] = [:]
    /// The number of the newest hint that was read, or `nil` before the first.
    private var newestHint: UInt64?
    /// The start of the current slice of a round, or `nil` between two.
    private var slice: NIODeadline?
    private var nextSlice = NIODeadline.uptimeNanoseconds(0)
    private var hintsFailure: StoreError?
    private var namesFailure: StoreError?
    /// The failure while as many calls hang as are tolerated.
    private var hangFailure: StoreError?
    /// The changes of other members that had been announced before the last poll, before the hints were read, and
    /// before the round began.
    private var announced = (latest: Mark(), hints: Mark(), round: Mark())
    /// The changes of other members that have been delivered, except for keys that cannot be read.
    package private(set) var covered = Mark()
    /// Whether every key of the first round was delivered, could not be read twice, or hangs.
    package private(set) var isComplete = false
    /// The keys whose last inspection failed, and the error.
    package private(set) var problems: [StoreKey: StoreError] = [:]

    package init(volume: Volume, scope: WatchScope) {
        self.volume = volume
        self.scope = scope
        isDisposable = StoreLayout.temporary.contains { scope == .below($0) }
    }

    /// The failure to list the prefix or its hints, in which case no key counts as removed, or ``hungLimit`` calls that
    /// hang.
    package var failure: StoreError? { hangFailure ?? namesFailure ?? hintsFailure }

    /// The failure that keeps the values from their user. Without the hints rounds find what has changed.
    var obstacle: StoreError? {
        hangFailure ?? namesFailure ?? hintsFailure.flatMap { $0.isTransient ? $0 : nil }
    }

    /// Whether everything that is known to have changed was delivered or cannot be read.
    package var isCurrent: Bool { !needsFullRound && isDrained }

    /// Whether nothing is being read of an urgent round or because it is due.
    private var isDrained: Bool { !isUrgent && due.isEmpty && inFlight.isEmpty && unsettled.isEmpty }

    /// Whether a round may begin, also during an ordinary one. While the names or the parts of the first round or of an
    /// urgent one are being read, which may take longer than the interval, no other begins: it would postpone the end
    /// of that one, without end if changes never stop.
    private var mayBegin: Bool { !isUrgent && (isComplete || round.isEmpty && inFlight.isEmpty) }

    /// Adds a key that has changed.
    package func enqueue(_ key: StoreKey) {
        guard scope.contains(key) else { return }
        guard due.count < Self.dueLimit else { return needsFullRound = true }
        due.append(key)
    }

    // MARK: Polling

    /// Makes due what is read once per poll.
    ///
    /// - Parameters:
    ///   - mark: The changes that other members have announced.
    ///   - volumeAnswers: Whether the volume answers otherwise, so that a call that hangs is a problem of its file.
    package func poll(after mark: Mark = Mark(), volumeAnswers: Bool = true) {
        let now = volume.now()
        announced.latest = mark
        for part in reading where volumeAnswers && part.hangs(now: now) { giveUp(part, now) }
        let hanging = hung.sorted().map(\.path) + reading.filter { $0.hangs(now: now) }.map(\.place)
        hangFailure = hanging.count < Self.hungLimit ? nil : limitReached(hanging)
        // Keys that fail now are due again after the next poll, not after this one.
        for _ in 0..<min(retries.count, Self.retriesPerPoll) { retries.next().map { due.append($0) } }
        if case .only(let key) = scope {
            (announced.hints, needsFullRound, hasListed) = (mark, false, true)
            return due.append(key)
        }
        needsHints = true
        if mayBegin, needsFullRound || round.isEmpty && now >= nextSlice { needsNames = true }
    }

    /// Ends the wait for a call that hangs.
    private func giveUp(_ part: WatchPart, _ now: NIODeadline) {
        switch part.work {
        case .hints: hintsFailure = stalled(part.place)
        case .names: namesFailure = stalled(part.place)
        default:
            guard let key = part.giveUp(now: now) else { return }
            hung.insert(key)
            // The time for which the call hung was no load of the volume.
            if slice != nil { slice = now - Self.sliceTime }
            cancel(part)
        }
    }

    private func stalled(_ place: String) -> StoreError {
        let reason = "does not answer, but other files do; what was read of it before stays in use"
        return StoreError(.stalled, volume.displayPath(place), reason)
    }

    private func limitReached(_ hanging: [String]) -> StoreError {
        let reason =
            "and \(hanging.count - 1) more files or folders do not answer, so nothing below \(scope.path) is read until one "
            + "does; what was read before stays in use; restart the server of the volume, or remount the volume"
        return StoreError(.stalled, volume.displayPath(hanging[0]), reason)
    }

    /// Takes the next part, or returns `nil` if there is nothing to read now or enough is being read.
    package func nextPart() -> WatchPart? {
        guard let (work, keys) = nextProblem() ?? nextReading(volume.now()) else { return nil }
        let part = WatchPart(volume, scope, work, keys, after: announced.latest)
        reading.append(part)
        return part
    }

    /// The problem of a key whose reading hangs, if it was not reported. The key is read again when the call returns.
    private func nextProblem() -> (WatchPart.Work, [WatchPart.Key])? {
        let unreported = hung.first { problems[$0]?.code != .stalled && !inFlight.contains($0) }
        guard let key = unreported else { return nil }
        inFlight.insert(key)
        return (.problem(stalled(key.path)), [(key, nil)])
    }

    private func nextReading(_ now: NIODeadline) -> (WatchPart.Work, [WatchPart.Key])? {
        guard reading.count(where: { $0.hangs(now: now) }) + hung.count < Self.hungLimit else { return nil }
        let bulk = reading.count { $0.isBulk }
        let single = reading.count - bulk + hung.count < Self.partLimit ? nextSingle(now) : nil
        return single ?? (bulk < Self.bulkLimit ? nextBulk() : nil)
    }

    private func nextSingle(_ now: NIODeadline) -> (WatchPart.Work, [WatchPart.Key])? {
        if needsHints, !reading.contains(where: { $0.isOfHints }) {
            needsHints = false
            return (.hints(after: newestHint), [])
        }
        while let key = due.next() {
            if hung.contains(key) {
                settle()
                continue
            }
            guard inFlight.insert(key).inserted else {
                // It may have changed since it was read.
                postponed.insert(key)
                continue
            }
            return (.due, [(key, knownVersion(key))])
        }
        // The first hints come before the names: without a number to start from, they call for a round.
        if needsNames, newestHint != nil || hintsFailure != nil, !reading.contains(where: { $0.isOfNames }) {
            (needsNames, isUrgent, needsFullRound) = (false, needsFullRound, false)
            slice = isUrgent ? nil : now
            return (.names, [])
        }
        guard !isUrgent, now >= nextSlice, !reading.contains(where: { $0.isOfRound }) else { return nil }
        let keys = nextKeysOfRound(Self.partSize)
        guard !keys.isEmpty else { return nil }
        slice = slice ?? now
        return (.round(isUrgent: false), keys)
    }

    private func nextBulk() -> (WatchPart.Work, [WatchPart.Key])? {
        guard isUrgent, !reading.contains(where: { $0.isOfNames }) else { return nil }
        let keys = nextKeysOfRound(Self.bulkPartSize)
        if round.isEmpty { isUrgent = false }
        guard !keys.isEmpty else {
            settle()
            return nil
        }
        return (.round(isUrgent: true), keys)
    }

    private func nextKeysOfRound(_ count: Int) -> [WatchPart.Key] {
        var keys: [WatchPart.Key] = []
        while keys.count < count, let key = round.next() {
            // A key in flight has just been inspected.
            if !hung.contains(key), inFlight.insert(key).inserted { keys.append((key, knownVersion(key))) }
        }
        return keys
    }

    /// Gives a part back that was not read, or not to its end.
    package func cancel(_ part: WatchPart) {
        reading.removeAll { $0 === part }
        switch part.work {
        case .hints: needsHints = true
        case .names: failNames(namesFailure)
        default:
            for (key, _) in part.keys { endInspection(of: key) }
            for (key, _) in part.keys where !hung.contains(key) { due.append(key) }
            endSlice(after: part)
        }
    }

    /// Notes that the call has returned for which the wait had ended.
    package func resume(_ part: WatchPart) {
        guard let key = part.hungKey else { return }
        hung.remove(key)
        due.append(key)
    }

    /// Records what was found in a part, and returns the changes.
    package func record(_ findings: WatchFindings, of part: WatchPart) -> [WatchedChange] {
        reading.removeAll { $0 === part }
        var changes: [WatchedChange] = []
        switch findings {
        case .hints(.success(let hints)):
            (hintsFailure, announced.hints, newestHint) = (nil, part.announced, hints.newest)
            if let keys = hints.keys {
                for key in keys { due.append(key) }
            } else {
                needsFullRound = true
                if mayBegin { needsNames = true }
            }
        case .hints(.failure(let error)): hintsFailure = error
        case .names(.success(let names?)): begin(names, part)
        case .names(.success(nil)) where known.isEmpty: begin([], part)
        case .names(.success(nil)): failNames(part.disappeared)
        case .names(.failure(let error)): failNames(error)
        case .keys(let findings):
            changes.reserveCapacity(findings.count)
            for (key, finding) in findings {
                if let content = content(key, finding) {
                    changes.append(WatchedChange(key: key, content: content))
                } else {
                    endInspection(of: key)
                }
            }
        case .foreign(let error):
            // When the own volume is back, every key is inspected.
            (namesFailure, needsFullRound, isUrgent, hasListed) = (error, true, false, false)
            (round, due) = (KeyQueue(), KeyQueue())
            for (key, _) in part.keys { endInspection(of: key) }
        }
        endSlice(after: part)
        settle()
        return changes
    }

    private func begin(_ names: [StoreKey], _ part: WatchPart) {
        (namesFailure, announced.round, hasListed) = (nil, part.announced, true)
        round.extend(by: Set(names).union(known.keys))
        if round.isEmpty { isUrgent = false }
    }

    private func failNames(_ error: StoreError?) {
        namesFailure = error
        // The hints of another volume may have been read.
        needsFullRound = needsFullRound || isUrgent || error?.code == .gone
        isUrgent = false
    }

    /// Ends a slice of a round whose time is over.
    private func endSlice(after part: WatchPart) {
        guard let began = slice, part.isOfRound || part.isOfNames else { return }
        let took = volume.now() - began
        guard round.isEmpty || took >= Self.sliceTime else { return }
        nextSlice = began + max(Self.interval, .nanoseconds(took.nanoseconds * Self.pauseFactor)) - .milliseconds(1)
        slice = nil
    }

    /// Records that changes were delivered.
    ///
    /// - Parameter rejected: The keys whose values could not be used.
    package func finish(_ changes: [WatchedChange], rejecting rejected: [StoreKey]) {
        for change in changes { endInspection(of: change.key) }
        for key in rejected where known[key] != nil {
            known[key]?.isRejected = true
            retries.append(key)
        }
        settle()
    }

    /// Ends the inspection of a key, and makes it due again if it may have changed meanwhile.
    private func endInspection(of key: StoreKey) {
        inFlight.remove(key)
        if !postponed.isEmpty, postponed.remove(key) != nil { due.append(key) }
    }

    private func settle() {
        guard isDrained, isComplete || hasListed && round.isEmpty else { return }
        isComplete = true
        guard isCurrent else { return }
        covered = announced.hints
        // If the hints cannot be read, a round finds what has changed.
        if round.isEmpty, announced.round.covers(covered) { covered = announced.round }
    }

    // MARK: Keys

    /// The version whose file need not be read again.
    private func knownVersion(_ key: StoreKey) -> UInt64? {
        guard !keepsBytes, let known = known[key], !known.isRejected, !mayBeCollected(known) else { return nil }
        return known.version
    }

    /// Whether a value is compared by its bytes, not by its version.
    private var keepsBytes: Bool { if case .only = scope { true } else { false } }

    private func content(_ key: StoreKey, _ finding: KeyFinding) -> WatchedChange.Content? {
        if case .failure(let error) = finding {
            let before = problems.updateValue(error, forKey: key)
            let isHung = hung.contains(key)
            // One that hangs is due when its call returns.
            if !isHung { retries.append(key) }
            if before == nil, error.isTransient, !isHung { unsettled.insert(key) } else { unsettled.remove(key) }
            // A volume that does not respond is part of the store's state, not a problem of a key.
            return error.isTransient && !isHung || before == error ? nil : .unreadable(error)
        }
        // These are empty in most passes, which read thousands of keys.
        if !unsettled.isEmpty { unsettled.remove(key) }
        guard case .success(let state?) = finding else { return disappearance(of: key) }
        if !problems.isEmpty { problems[key] = nil }
        if !missing.isEmpty { missing[key] = nil }
        let before = known[key]
        switch state {
        case .known: return nil
        case .removed(let version):
            if let before, before.removed != nil, version <= before.version {
                if version < before.version, mayBeCollected(before) { return collected(key) }
                known[key]?.isRejected = false
                return before.isRejected ? .removed(version: before.version) : nil
            }
            known[key] = Known(version: version, removed: before == nil ? .uptimeNanoseconds(0) : volume.now())
            return .removed(version: version)
        case .value(let stored):
            if let before, before.removed != nil, stored.version <= before.version {
                if mayBeCollected(before) { return collected(key) }
                // Its user refuses an older version. The removal stays known, to accept the key later: this process may
                // have found the removal long after the others.
                if stored.version < before.version { return .value(stored) }
            }
            let new = Known(version: stored.version, bytes: keepsBytes ? stored.bytes : nil)
            guard !keepsBytes || known[key] != new else { return nil }
            known[key] = new
            return .value(stored)
        }
    }

    /// Whether the folder of a removed key may have been deleted since, and the key created again between two
    /// inspections. Before that no lower version is regular.
    private func mayBeCollected(_ known: Known) -> Bool {
        known.removed.map { isDisposable || volume.now() - $0 >= Self.removalAge } ?? false
    }

    /// Forgets a removed key whose folder was deleted, and makes the new one due.
    private func collected(_ key: StoreKey) -> WatchedChange.Content {
        known[key] = nil
        due.append(key)
        return .collected
    }

    /// Returns the change if a folder counts as gone: two lookups, not right after each other, did not find it. The
    /// folder of a removed key is expected to go.
    private func disappearance(of key: StoreKey) -> WatchedChange.Content? {
        let before = known[key]
        guard before != nil || problems[key] != nil else { return nil }
        if before?.removed == nil {
            let now = volume.now()
            guard let since = missing[key], now - since >= Self.secondLookupDelay else {
                missing[key] = missing[key] ?? now
                retries.append(key)
                return nil
            }
        }
        missing[key] = nil
        known[key] = nil
        problems[key] = nil
        return before?.removed != nil || isDisposable ? .collected : .removed(version: nil)
    }
}
