package import NIOCore

/// A key whose newest version or generation is another one than before.
package struct StoreChange: Hashable, Sendable {
    package enum Mark: Hashable, Sendable {
        case version(UInt64)
        case generation(Generation)
    }

    package let key: StoreKey
    /// What is newest now; it may say that the key was removed. Nil: its folder is gone.
    package let newest: Mark?

    package init(key: StoreKey, newest: Mark?) {
        self.key = key
        self.newest = newest
    }
}

/// Watches the keys one level below a prefix by looking, never by inotify or modification times, which a network file
/// system does not keep its word about.
///
/// Each look reads the hints of ``Volume/note(_:)`` (one listing) and the keys that they name. Besides, all keys are
/// looked at in rounds, a slice a look: however many there are and however slow the volume, a key that is hinted at waits
/// for one slice. Rounds take no more than a tenth of the time, and one begins once a second at most; the first one, and
/// one after hints were missed, goes on without a pause. Sans thread; belongs to one thread at a time.
package final class PrefixWatch {
    package static let interval = TimeAmount.seconds(1)
    /// Slices take at most this part of the time: one in ten.
    static let share: Int64 = 10
    /// A look stops to take further keys of its round after this time (with its other calls a tenth of two seconds),
    static let slice = TimeAmount.milliseconds(180)
    /// or, of keys that failed before, after this time,
    static let retries = TimeAmount.milliseconds(100)
    /// but never before so many: a call that hung is no reason to stand still.
    static let leastKeys = 16
    /// So many announced keys a look; more than that wait for the next look, which follows at once.
    static let freshKeys = 256
    /// Two looks that did not find a folder are as far apart.
    static let secondLook = TimeAmount.milliseconds(500)
    /// More announced keys than this are as good as missed hints.
    private static let freshLimit = 65_536

    package let prefix: StoreKey
    private let volume: Volume
    private var known: [StoreKey: StoreChange.Mark] = [:]
    /// Hinted at or announced, and not looked at since.
    private var fresh = KeyQueue()
    /// Not readable last time, or not found for the first time.
    private var again = KeyQueue()
    /// What is left of the round under way.
    private var round = KeyQueue()
    /// The round under way is not to pause.
    private var isUrgent = false
    /// Hints were missed: everything has to be looked at from now on.
    private var isOwed = false
    private var missing: [StoreKey: NIODeadline] = [:]
    private var newestHint: UInt64?
    private var nextSlice = NIODeadline.uptimeNanoseconds(0)
    /// What could not be looked at when it was looked at last, and why.
    package private(set) var problems: [StoreKey: StoreError] = [:]

    package init(volume: Volume, prefix: StoreKey) {
        self.volume = volume
        self.prefix = prefix
    }

    /// The next look should follow at once.
    package var wantsMore: Bool { !fresh.isEmpty || isUrgent && !round.isEmpty }

    /// A peer says that this key changed; the next look includes it.
    package func announced(_ key: StoreKey) {
        guard key.parent == prefix else { return }
        guard fresh.count < Self.freshLimit else { return isOwed = true }
        fresh.append(key)
    }

    /// Looks once. Returns what was found to have changed; the looks of the first round return everything.
    ///
    /// - Throws: when the prefix itself cannot be listed; nothing is taken for removed then.
    package func poll() throws(StoreError) -> [StoreChange] {
        let began = volume.now()
        if try readHints() { isOwed = true }
        let isDue = began >= nextSlice
        if isOwed || isDue && round.isEmpty {
            round.extend(by: try allKeys())
            isUrgent = isOwed
            isOwed = false
        }
        var changes: [StoreChange] = []
        // Those that fail now are looked at again by the next look, not by this one.
        let retries = again.count
        look(at: \.fresh, atMost: Self.freshKeys, until: .distantFuture, &changes)
        look(at: \.again, atMost: retries, until: began + Self.retries, &changes)
        if isDue || isUrgent {
            look(at: \.round, atMost: .max, until: began + Self.slice, &changes)
            if round.isEmpty { isUrgent = false }
            let cost = volume.now() - began
            let pause = max(Self.interval, .nanoseconds(cost.nanoseconds * Self.share))
            nextSlice = began + pause - .milliseconds(1)
        }
        return changes.sorted { $0.key < $1.key }
    }

    /// Takes keys from a queue until it is time to stop.
    private func look(
        at queue: ReferenceWritableKeyPath<PrefixWatch, KeyQueue>,
        atMost limit: Int,
        until end: NIODeadline,
        _ changes: inout [StoreChange]
    ) {
        var count = 0
        while count < limit, count < Self.leastKeys || volume.now() < end, let key = self[keyPath: queue].next() {
            count += 1
            if let change = look(at: key) { changes.append(change) }
        }
    }

    private func look(at key: StoreKey) -> StoreChange? {
        do throws(StoreError) {
            let mark = try mark(of: key)
            problems[key] = nil
            guard let mark else { return isGone(key) ? StoreChange(key: key, newest: nil) : nil }
            missing[key] = nil
            guard known[key] != mark else { return nil }
            known[key] = mark
            return StoreChange(key: key, newest: mark)
        } catch {
            problems[key] = error
            again.append(key)
            return nil
        }
    }

    /// A folder is taken for gone when two looks in a row, not one right after the other, did not find it.
    private func isGone(_ key: StoreKey) -> Bool {
        guard known[key] != nil else { return false }
        let now = volume.now()
        guard let since = missing[key], now - since >= Self.secondLook else {
            missing[key] = missing[key] ?? now
            again.append(key)
            return false
        }
        missing[key] = nil
        known[key] = nil
        return true
    }

    /// Takes up new hints. True: hints were missed, everything has to be looked at.
    private func readHints() throws(StoreError) -> Bool {
        let numbers = try volume.hintNumbers(prefix.path)
        let newest = numbers.last ?? 0
        defer { newestHint = newest }
        guard let before = newestHint else { return true }
        guard newest != before else { return false }
        guard newest > before, newest - before <= Volume.hintsKept / 2 else { return true }
        for number in before + 1...newest {
            guard let name = volume.hint(prefix.path, number), let key = try? prefix.child(name) else { return true }
            fresh.append(key)
        }
        return false
    }

    private func allKeys() throws(StoreError) -> Set<StoreKey> {
        var keys = Set(known.keys)
        guard let names = try volume.namesIfPresent(in: prefix.path) else {
            // A prefix does not go away by itself.
            guard keys.isEmpty else {
                throw StoreError(.gone, volume.shown(prefix.path), "is gone; what was read last stays in use")
            }
            return []
        }
        for name in names { keys.insert(try prefix.child(name)) }
        return keys
    }

    private func mark(of key: StoreKey) throws(StoreError) -> StoreChange.Mark? {
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
