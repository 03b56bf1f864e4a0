import NIOCore
import Synchronization

/// A piece of the reading that a ``PrefixWatch`` needs, to be done on any thread.
package final class WatchPart: Sendable {
    enum Work {
        /// The hints after one, or the number of the newest if no hint was read before.
        case hints(after: UInt64?)
        /// The names below the prefix.
        case names
        /// One key that may have changed.
        case due
        /// Keys of a round.
        case round(isUrgent: Bool)
        /// A report that the reading of the key hangs; it reads nothing.
        case problem(StoreError)
    }

    package typealias Key = (key: StoreKey, known: UInt64?)

    /// The time after which a call counts as hanging.
    private static let patience = StoreHealth.limit

    private struct State {
        /// The start of the current call, or of the inspection of the current key.
        var began: NIODeadline?
        var key: StoreKey?
        /// Whether ``PrefixWatch`` no longer waits for the result.
        var isGivenUp = false

        func hangs(_ now: NIODeadline) -> Bool { began.map { now - $0 > WatchPart.patience } ?? false }
    }

    let work: Work
    /// The keys that are inspected; none in a part that lists.
    package let keys: [Key]
    /// The changes that other members had announced when the part was taken.
    let announced: Mark
    private let volume: Volume
    private let prefix: StoreKey?
    private let state = Mutex(State())

    init(_ volume: Volume, _ scope: WatchScope, _ work: Work, _ keys: [Key], after announced: Mark) {
        self.volume = volume
        prefix = if case .below(let prefix) = scope { prefix } else { nil }
        self.work = work
        self.keys = keys
        self.announced = announced
    }

    var isOfHints: Bool { if case .hints = work { true } else { false } }
    var isOfNames: Bool { if case .names = work { true } else { false } }
    /// Whether the part is one of many that are read at the same time, by the bulk threads.
    var isBulk: Bool { if case .round(isUrgent: true) = work { true } else { false } }
    var isOfRound: Bool { if case .round = work { true } else { false } }

    /// The folder whose listing the part is.
    var place: String {
        let prefix = prefix?.path ?? ""
        return isOfHints ? Volume.hints(prefix) : prefix
    }

    /// Whether a call has not returned for longer than the store tolerates.
    func hangs(now: NIODeadline) -> Bool { state.withLock { $0.hangs(now) } }

    /// Ends the wait for the part. Returns the key whose inspection hangs.
    func giveUp(now: NIODeadline) -> StoreKey? {
        state.withLock { state in
            guard state.hangs(now), let key = state.key else { return nil }
            state.isGivenUp = true
            return key
        }
    }

    /// The key whose inspection hung when the wait ended, or `nil` if it did not end.
    var hungKey: StoreKey? { state.withLock { $0.isGivenUp ? $0.key : nil } }

    /// Reads the part. Returns `nil` if the wait for it has ended.
    package func read() -> WatchFindings? {
        if case .problem(let error) = work { return .keys(keys.map { ($0.key, .failure(error)) }) }
        guard begin(nil) else { return nil }
        let findings: WatchFindings
        switch (work, prefix) {
        case (.hints(let newest), let prefix?):
            findings = .hints(result { () throws(StoreError) in try hints(after: newest, in: prefix) })
        case (.names, let prefix?):
            findings = .names(
                result { () throws(StoreError) in
                    let names = try volume.namesIfPresent(in: prefix.path)
                    try volume.requireOwnVolume()
                    return names?.map { prefix.child(listed: $0) }
                }
            )
        default:
            guard let found = inspectKeys() else { return nil }
            findings = verified(found)
        }
        return state.withLock { state in
            state.began = nil
            return state.isGivenUp ? nil : findings
        }
    }

    private func inspectKeys() -> [WatchFindings.Key]? {
        // A listing relative to an open folder needs fewer calls, but is only as fresh as the opening.
        let folder = isBulk ? prefix.flatMap { try? volume.files.openFolder($0.path) } : nil
        var found: [WatchFindings.Key] = []
        found.reserveCapacity(keys.count)
        for (key, known) in keys {
            guard begin(key) else { return nil }
            found.append((key, volume.inspect(key, known: known, in: folder)))
        }
        return found
    }

    /// Refuses what was found if another volume stands at the path, or if keys are missing together with their prefix.
    /// A single key is read in any case: its user compares the cluster itself.
    private func verified(_ found: [WatchFindings.Key]) -> WatchFindings {
        let isChange = found.contains { if case .success(.known) = $0.finding { false } else { true } }
        guard isChange, let prefix else { return .keys(found) }
        do throws(StoreError) {
            try volume.requireOwnVolume()
            let isMissing = found.contains { if case .success(nil) = $0.finding { true } else { false } }
            if isMissing, try volume.namesIfPresent(in: prefix.path) == nil { throw disappeared }
            return .keys(found)
        } catch {
            return .foreign(error)
        }
    }

    /// The failure of a watch whose prefix, which is never removed, does not exist.
    var disappeared: StoreError {
        let error = volume.disappeared(place)
        return StoreError(error.code, error.place, "\(error.reason); the last known values stay in use")
    }

    /// Reads new hints.
    private func hints(after before: UInt64?, in prefix: StoreKey) throws(StoreError) -> WatchFindings.Hints {
        let newest = try volume.hintNumbers(prefix.path).last ?? 0
        guard newest != before else { return (newest, []) }
        guard let before, newest > before, newest - before <= Volume.hintsKept / 2 else { return (newest, nil) }
        var keys: [StoreKey] = []
        for number in before + 1...newest {
            // Each file has its own time.
            guard begin(nil) else { return (newest, nil) }
            guard let name = volume.hint(prefix.path, number), let key = try? prefix.child(name) else {
                return (newest, nil)
            }
            keys.append(key)
        }
        return (newest, keys)
    }

    /// Notes the start of a call. Returns `false` if the wait for the part has ended.
    private func begin(_ key: StoreKey?) -> Bool {
        let now = volume.now()
        return state.withLock { state in
            guard !state.isGivenUp else { return false }
            (state.began, state.key) = (now, key)
            return true
        }
    }

    private func result<Success>(_ body: () throws(StoreError) -> Success) -> Result<Success, StoreError> {
        do throws(StoreError) { return .success(try body()) } catch { return .failure(error) }
    }
}

/// The content of a ``WatchPart``.
package enum WatchFindings {
    /// The number of the newest hint, and the keys that changed, or `nil` if hints were missed.
    package typealias Hints = (newest: UInt64, keys: [StoreKey]?)
    package typealias Key = (key: StoreKey, finding: KeyFinding)

    case hints(Result<Hints, StoreError>)
    /// The keys below the prefix, or `nil` if it is not there.
    case names(Result<[StoreKey]?, StoreError>)
    case keys([Key])
    /// Another volume stands at the path, or the prefix has disappeared.
    case foreign(StoreError)
}
