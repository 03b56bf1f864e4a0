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
/// Each look reads the hints of ``Volume/note(_:)`` (one listing). From time to time it lists every key: as often as
/// that takes no more than a tenth of the time, and once a second at most. Sans thread; belongs to one thread at a time.
package final class PrefixWatch {
    package static let interval = TimeAmount.seconds(1)
    /// A look at everything takes at most this part of the time: one in ten.
    static let scanShare: Int64 = 10

    package let prefix: StoreKey
    private let volume: Volume
    private var known: [StoreKey: StoreChange.Mark] = [:]
    /// To be looked at whatever the hints say: announced, or not readable last time.
    private var suspects: Set<StoreKey> = []
    private var missing: [StoreKey: Int] = [:]
    private var newestHint: UInt64?
    private var nextScan = NIODeadline.uptimeNanoseconds(0)
    /// What could not be looked at in the last look, and why.
    package private(set) var problems: [StoreKey: StoreError] = [:]

    package init(volume: Volume, prefix: StoreKey) {
        self.volume = volume
        self.prefix = prefix
    }

    /// A peer says that this key changed; the next look includes it.
    package func announced(_ key: StoreKey) {
        guard key.parent == prefix, suspects.count < 65_536 else { return }
        suspects.insert(key)
    }

    /// Looks once. Returns what changed since the last look that succeeded; the first returns everything.
    ///
    /// - Throws: when the prefix itself cannot be listed; nothing is taken for removed then.
    package func poll() throws(StoreError) -> [StoreChange] {
        let began = volume.now()
        // Hints that were missed call for a look at everything, until one succeeds.
        if try readHints() { nextScan = began }
        let isScan = began >= nextScan
        let keys = isScan ? try allKeys() : suspects
        var changes: [StoreChange] = []
        var stillSuspect: Set<StoreKey> = []
        problems = [:]
        for key in keys {
            do {
                let mark = try mark(of: key)
                if let mark {
                    missing[key] = nil
                    guard known[key] != mark else { continue }
                    known[key] = mark
                } else {
                    guard known[key] != nil else { continue }
                    // A folder is taken for gone when two looks in a row did not find it.
                    missing[key, default: 0] += 1
                    guard missing[key, default: 0] >= 2 else {
                        stillSuspect.insert(key)
                        continue
                    }
                    missing[key] = nil
                    known[key] = nil
                }
                changes.append(StoreChange(key: key, newest: mark))
            } catch {
                problems[key] = error
                stillSuspect.insert(key)
            }
        }
        suspects = stillSuspect
        if isScan {
            let cost = volume.now() - began
            let pause = max(Self.interval, .nanoseconds(cost.nanoseconds * Self.scanShare))
            nextScan = began + pause - .milliseconds(1)
        }
        return changes.sorted { $0.key < $1.key }
    }

    /// Turns new hints into suspects. True: hints were missed, everything has to be looked at.
    private func readHints() throws(StoreError) -> Bool {
        let numbers = try volume.hintNumbers(prefix.path)
        let newest = numbers.last ?? 0
        defer { newestHint = newest }
        guard let before = newestHint else { return true }
        guard newest != before else { return false }
        guard newest > before, newest - before <= Volume.hintsKept / 2 else { return true }
        for number in before + 1...newest {
            guard let name = volume.hint(prefix.path, number), let key = try? prefix.child(name) else { return true }
            suspects.insert(key)
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
