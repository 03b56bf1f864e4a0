package import Certificates
package import NIOCore
package import Store

/// What a replica remembers of `acme/challenges` from one look to the next, and what it has to read. Sans store and
/// clock; belongs to one task.
package struct ChallengeWatcher {
    /// Values that are looked at; more than ever are there.
    package static let keys = 2_048
    /// Everything is read again this often, whatever the heartbeats say.
    package static let scanInterval = TimeAmount.seconds(10)
    /// After news so many of the known ones are read again, those that changed last. A token that is presented again
    /// after it was withdrawn is among them.
    package static let recent = 128
    /// A value that nobody touched for so long belongs to a process that died.
    package static let oldAge = TimeAmount.hours(1)
    /// Old ones that are taken away in one look.
    package static let removals = 16

    private enum Content: Equatable {
        case task(ChallengeTask)
        case removed
        /// Why it is not used.
        case bad(String)
    }

    private struct Known {
        var content: Content
        /// Nil: it cannot be read.
        var version: UInt64?
        /// When this version was seen first.
        var since: NIODeadline
        /// Looks in a row that did not find the key.
        var misses = 0
    }

    private var known: [StoreKey: Known] = [:]
    /// What was read in this look.
    private var isRead: Set<StoreKey> = []
    private var nextScan = NIODeadline.uptimeNanoseconds(0)
    /// What was heard before the last look that was complete.
    package var heard: [Heartbeat.Seen] = []
    /// Everything that had to be read was.
    package private(set) var isComplete = false
    /// The folder holds more than is looked at.
    package private(set) var isTooMuch = false
    /// That there is no room for some was told.
    package var wasTold = false
    /// What became unusable in this look, for the log.
    package private(set) var newProblems: [(key: StoreKey, reason: String)] = []

    package init() {}

    /// Begins a look: says what has to be read.
    ///
    /// - Parameters:
    ///   - listed: what is in the folder, asked for after `isNews` was found out.
    ///   - isNews: somebody has published something since the last complete look.
    package mutating func begin(_ listed: [StoreKey], isNews: Bool, now: NIODeadline) -> [StoreKey] {
        isComplete = true
        isRead = []
        newProblems = []
        isTooMuch = listed.count > Self.keys
        let listed = Set(listed.prefix(Self.keys))
        for key in known.keys where !listed.contains(key) {
            known[key]?.misses += 1
            // One look that did not find a folder proves nothing.
            if known[key]?.misses ?? 0 >= 2 { known[key] = nil }
        }
        for key in listed { known[key]?.misses = 0 }
        if now >= nextScan {
            nextScan = now + Self.scanInterval
            return listed.sorted()
        }
        let new = listed.filter { known[$0] == nil }
        guard isNews else { return new.sorted() }
        let again = known.filter { $0.value.misses == 0 }.sorted { ($0.value.since, $1.key) > ($1.value.since, $0.key) }
        return new.sorted() + again.prefix(Self.recent).map(\.key)
    }

    /// Takes what was read.
    package mutating func take(_ key: StoreKey, _ outcome: Result<StoredValue, StoreError>, now: NIODeadline) {
        var version: UInt64?
        var content: Content
        switch outcome {
        case .success(let stored):
            version = stored.version
            do throws(ACMEMessageError) {
                content = .task(try ChallengeTask(document: stored.bytes, at: key))
            } catch {
                content = .bad(error.description)
            }
        case .failure(let error) where error.code == .notFound: content = .removed
        case .failure(let error) where error.isTransient || error.code == .closed:
            // What was known stays; the key is looked at again.
            isComplete = false
            nextScan = now
            return
        case .failure(let error): content = .bad(error.description)
        }
        isRead.insert(key)
        let before = known[key]
        guard before?.content != content || before?.version != version else { return }
        known[key] = Known(content: content, version: version, since: now)
        if case .bad(let reason) = content { newProblems.append((key, reason)) }
    }

    /// The listing failed: nothing was learnt.
    package mutating func failed() { isComplete = false }

    /// The tasks that were read in this look.
    package var tasks: [ChallengeTask] {
        isRead.sorted().compactMap { key in
            if case .task(let task)? = known[key]?.content { task } else { nil }
        }
    }

    /// Whether the store has said that this task is over: its key is not there, or was read in this look and says
    /// something else.
    package func isOver(_ task: ChallengeTask) -> Bool {
        let key = task.storeKey
        guard let value = known[key] else { return true }
        return isRead.contains(key) && value.content != .task(task)
    }

    /// Values that nobody has touched for so long that they are to be removed.
    package func old(now: NIODeadline) -> [(key: StoreKey, version: UInt64)] {
        let old = known.compactMap { key, value -> (key: StoreKey, version: UInt64)? in
            guard let version = value.version, now - value.since > Self.oldAge else { return nil }
            return (key, version)
        }
        return Array(old.sorted { $0.key < $1.key }.prefix(Self.removals))
    }

    /// An old value is gone.
    package mutating func removed(_ key: StoreKey, now: NIODeadline) {
        known[key] = Known(content: .removed, version: nil, since: now)
    }
}
