package import ACME
import Certificates
package import NIOCore
package import Store

/// The state that a replica keeps between two polls of the folder `acme/challenges`, and the choice of the values to read.
///
/// Performs no I/O and reads no clock; used by the one task that runs ``SharedChallenges/run()``. Each poll calls, in this
/// order: ``beginPoll(_:afterAnnouncement:now:)`` with the listing, ``record(_:_:now:)`` for each value that it asked
/// for, then reads ``tasks``, ``isComplete`` and ``newProblems``. ``listingFailed()`` takes the place of the first two if
/// the folder could not be listed.
package struct ChallengeWatcher {
    /// The number of keys that are considered. The folder never holds more, unless something else writes there.
    package static let keyLimit = 2_048
    /// The interval at which all values are read again, with or without an announcement.
    package static let scanInterval = TimeAmount.seconds(10)
    /// The number of known values that are read again after an announcement, those that changed last. A token that is
    /// presented again after it was withdrawn is among them.
    package static let recentLimit = 128
    /// The age at which an unchanged value is taken for the remnant of a process that died.
    package static let maximumAge = TimeAmount.hours(1)
    /// The number of expired values that are removed in one poll.
    package static let removalLimit = 16

    private enum Content: Equatable {
        case task(ChallengeTask)
        case removed
        /// The value cannot be used, for this reason.
        case unusable(String)
    }

    private struct Known {
        var content: Content
        /// The version, or `nil` if the value cannot be read.
        var version: UInt64?
        /// The time of the first poll that saw this version.
        var since: NIODeadline
        /// The number of consecutive polls whose listing did not contain the key.
        var misses = 0
    }

    private var known: [StoreKey: Known] = [:]
    /// The keys that were read in this poll.
    private var readKeys: Set<StoreKey> = []
    private var nextScan = NIODeadline.uptimeNanoseconds(0)
    /// The announced changes that the last complete poll has covered.
    package var processedChanges: [Heartbeat.Seen] = []
    /// Whether all values that had to be read in this poll were read.
    package private(set) var isComplete = false
    /// Whether the folder holds more than ``keyLimit`` keys.
    package private(set) var isTruncated = false
    /// Whether a lack of room was logged and still persists.
    package var didLogOverflow = false
    /// The values that became unusable in this poll, for the log.
    package private(set) var newProblems: [(key: StoreKey, reason: String)] = []

    package init() {}

    /// Begins a poll.
    ///
    /// - Parameters:
    ///   - listed: The keys in the folder. The folder has to be listed after `afterAnnouncement` was determined.
    ///   - afterAnnouncement: Whether a replica has published something since the last complete poll.
    /// - Returns: The keys whose values are to be read.
    package mutating func beginPoll(_ listed: [StoreKey], afterAnnouncement: Bool, now: NIODeadline) -> [StoreKey] {
        isComplete = true
        readKeys = []
        newProblems = []
        isTruncated = listed.count > Self.keyLimit
        let listed = Set(listed.prefix(Self.keyLimit))
        for key in known.keys where !listed.contains(key) {
            known[key]?.misses += 1
            // One listing without the key proves nothing: on a network file system it may be stale.
            if known[key]?.misses ?? 0 >= 2 { known[key] = nil }
        }
        for key in listed { known[key]?.misses = 0 }
        if now >= nextScan {
            nextScan = now + Self.scanInterval
            return listed.sorted()
        }
        let new = listed.filter { known[$0] == nil }
        guard afterAnnouncement else { return new.sorted() }
        let again = known.filter { $0.value.misses == 0 }.sorted { ($0.value.since, $1.key) > ($1.value.since, $0.key) }
        return new.sorted() + again.prefix(Self.recentLimit).map(\.key)
    }

    /// Records the result of reading a value that the poll asked for.
    package mutating func record(_ key: StoreKey, _ outcome: Result<StoredValue, StoreError>, now: NIODeadline) {
        var version: UInt64?
        var content: Content
        switch outcome {
        case .success(let stored):
            version = stored.version
            do throws(ACMEMessageError) {
                content = .task(try ChallengeTask(document: stored.bytes, at: key))
            } catch {
                content = .unusable(error.description)
            }
        case .failure(let error) where error.code == .notFound: content = .removed
        case .failure(let error) where error.isTransient || error.code == .closed:
            // The known value stays valid; the next poll reads the key again.
            isComplete = false
            nextScan = now
            return
        case .failure(let error): content = .unusable(error.description)
        }
        readKeys.insert(key)
        let before = known[key]
        guard before?.content != content || before?.version != version else { return }
        known[key] = Known(content: content, version: version, since: now)
        if case .unusable(let reason) = content { newProblems.append((key, reason)) }
    }

    /// Records that the folder could not be listed: the poll has no result.
    package mutating func listingFailed() { isComplete = false }

    /// The challenges that were read in this poll.
    package var tasks: [ChallengeTask] {
        readKeys.sorted().compactMap { key in
            if case .task(let task)? = known[key]?.content { task } else { nil }
        }
    }

    /// Whether the store no longer holds this challenge: its key is gone, or was read in this poll with another value.
    package func isWithdrawn(_ task: ChallengeTask) -> Bool {
        let key = task.storeKey
        guard let value = known[key] else { return true }
        return readKeys.contains(key) && value.content != .task(task)
    }

    /// Values that have not changed for ``maximumAge`` and are to be removed, at most ``removalLimit``.
    package func expired(now: NIODeadline) -> [(key: StoreKey, version: UInt64)] {
        let expired = known.compactMap { key, value -> (key: StoreKey, version: UInt64)? in
            guard let version = value.version, now - value.since > Self.maximumAge else { return nil }
            return (key, version)
        }
        return Array(expired.sorted { $0.key < $1.key }.prefix(Self.removalLimit))
    }

    /// Records that an expired value was removed.
    package mutating func recordRemoval(of key: StoreKey, now: NIODeadline) {
        known[key] = Known(content: .removed, version: nil, since: now)
    }
}
