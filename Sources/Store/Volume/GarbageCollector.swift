package import NIOCore
import Synchronization

/// Deletes what is no longer needed: archived journals, temporary files of processes that died, folders of removed
/// keys, and old versions of values.
///
/// Archived and temporary files are kept for ten minutes after this process first saw them, on its own monotonic clock;
/// several replicas may delete at once. Removed keys are kept for an hour, and until every member has acted on the
/// removal for a while: otherwise one would take a new value for an older one, since its versions start again. Keys
/// below disposable prefixes, whose names are random and never return, are deleted when they are seen. What a removal
/// should have unlinked already, because it may be a secret, is deleted first, and so is what the replacement of a
/// private key should have unlinked.
///
/// The work goes on in slices of at most ``sliceTime``: a reader of the ``VolumeStore`` calls ``examine(now:)``, which
/// lists and reads, and its writer ``delete(_:)`` with the result. For a removed key that takes a rename, and reads
/// before and after it that verify the removal; files and folders are only unlinked. Confined to one thread at a time,
/// except for ``successor()``: another collector continues in the place of one whose call hangs, and passes over that
/// file or folder until the call returns.
package final class GarbageCollector {
    /// The time for which archived and temporary files are kept.
    package static let minimumAge = TimeAmount.minutes(10)
    /// The time for which it stays known that a key was removed.
    package static let removalAge = TimeAmount.hours(1)
    /// The time for which all members must have acted on the removal: longer than a watch refuses older versions for.
    package static let settledAge = TimeAmount.nanoseconds(removalAge.nanoseconds / 2) + .minutes(1)
    /// The time after which a slice examines or deletes no more.
    package static let sliceTime = TimeAmount.milliseconds(200)
    /// The highest number of names that are remembered; others wait for a later round.
    private static let memoryLimit = 65_536
    /// The highest number of versions of one key that are deleted in a round.
    private static let versionsPerKey = 256
    /// The highest number of versions with a private key that are read to find the replaced one. Below more copies of
    /// the newest version old ones are deleted like those of other values.
    private static let copiesRead = 3
    /// The number of hanging calls at which no collector goes on.
    private static let hungLimit = 4

    /// One call of the file system, or for a key a few.
    package enum Deletion: Equatable, Sendable {
        case file(String)
        case folder(String)
        /// The folder of a key that is removed by a version.
        case key(StoreKey, removal: UInt64)
        /// A folder of `tombs/` with the folder of a key that may have a value.
        case misplaced(String, StoreKey)
    }

    private enum Subject {
        /// A file or folder that is deleted with its contents.
        case path(String)
        case key(StoreKey, isDisposable: Bool)

        var place: String {
            switch self {
            case .path(let path): path
            case .key(let key, _): key.path
            }
        }
    }

    private struct Sighting: Sendable {
        let since: NIODeadline
        /// The time since which all members are known to have acted on the removal.
        var settled: NIODeadline?
    }

    /// The state that a collector and its successors share.
    private final class Progress: Sendable {
        struct State: Sendable {
            /// The number of the collector that goes on, or `nil` if too many calls hang.
            var active: UInt64? = 0
            var lastNumber: UInt64 = 0
            /// The path that the active collector examines, or `nil` between two slices.
            var subject: String?
            /// The paths whose calls hang, by the number of the collector that made the call.
            var hanging: [UInt64: String] = [:]
            /// The sightings at the beginning of the slice.
            var firstSeen: [String: Sighting] = [:]
            var seen: [String: Sighting] = [:]

            /// Makes a new collector the active one. Returns its number and the sightings that are known.
            mutating func activate() -> (number: UInt64, seen: [String: Sighting]) {
                lastNumber += 1
                active = lastNumber
                return (lastNumber, firstSeen.merging(seen) { $1 })
            }
        }

        let state = Mutex(State())
    }

    private let volume: Volume
    private let disposable: [StoreKey]
    private let kept: [StoreKey]
    private let progress: Progress
    private let number: UInt64
    /// The sightings of files and folders, and of the versions that remove keys, by path.
    private var firstSeen: [String: Sighting] = [:]
    private var seen: [String: Sighting] = [:]
    /// The newest versions that are known to be values, so that they need not be read again.
    private var values: [StoreKey: UInt64] = [:]
    /// The newest versions with private keys that have no version before the replaced one.
    private var pruned: [StoreKey: UInt64] = [:]
    private var subjects: ArraySlice<Subject> = []
    /// The folders whose names are not among the subjects yet.
    private var unlisted: ArraySlice<StoreKey> = []

    /// - Parameters:
    ///   - disposable: The prefixes of keys with random names. Such a key should not be created again: one that is
    ///     created at the moment when its folder is deleted is restored, but may be missing for that moment. Archived
    ///     and temporary files are deleted together with them.
    ///   - kept: The prefixes of keys that are kept for a while after their removal.
    package convenience init(
        volume: Volume,
        disposable: [StoreKey] = StoreLayout.temporary,
        kept: [StoreKey] = StoreLayout.kept
    ) {
        self.init(volume, disposable, kept, Progress(), 0, [:])
    }

    private init(
        _ volume: Volume,
        _ disposable: [StoreKey],
        _ kept: [StoreKey],
        _ progress: Progress,
        _ number: UInt64,
        _ seen: [String: Sighting]
    ) {
        self.volume = volume
        self.disposable = disposable
        self.kept = kept
        self.progress = progress
        self.number = number
        self.seen = seen
    }

    /// The time before which all members have acted on every removal that this process had seen, or `nil` if none is
    /// known.
    package var settled: NIODeadline?
    /// Whether the last round has kept removed keys.
    package private(set) var isWaiting = false

    /// Whether everything was examined; the next slice begins a new round.
    package var isRoundFinished: Bool { subjects.isEmpty && unlisted.isEmpty }

    /// Examines a slice of the store. Returns what may be deleted.
    ///
    /// - Throws: The failure to begin a round.
    package func examine(now: NIODeadline) throws(StoreError) -> [Deletion] {
        let end = volume.now() + Self.sliceTime
        let sightings = (firstSeen, seen)
        progress.state.withLock { state in
            if state.active == number { (state.firstSeen, state.seen) = sightings }
        }
        if isRoundFinished {
            var paths: [String] = []
            for folder in disposable.isEmpty ? [] : [Volume.tombs, Volume.temporaries] where begin(folder) {
                paths += try volume.names(in: folder, fresh: true).map { "\(folder)/\($0)" }
            }
            (firstSeen, seen, isWaiting) = (seen, [:], false)
            if values.count >= Self.memoryLimit { (values, pruned) = ([:], [:]) }
            subjects = paths.map { .path($0) }[...]
            if !kept.isEmpty { subjects.append(.key(.clusterDocument, isDisposable: false)) }
            unlisted = (disposable + kept)[...]
        }
        var found: [Deletion] = []
        repeat {
            if let subject = subjects.popFirst() {
                guard begin(subject.place) else { continue }
                // What cannot be read now waits for the next round.
                found += (try? deletions(of: subject, now)) ?? []
            } else if let prefix = unlisted.popFirst() {
                guard begin(prefix.path) else { continue }
                let isDisposable = disposable.contains(prefix)
                let keys = (try? volume.unsortedKeys(prefix)) ?? []
                subjects = keys.map { .key($0, isDisposable: isDisposable) }[...]
            }
        } while !isRoundFinished && volume.now() < end
        return found
    }

    // MARK: Calls that hang

    /// Replaces this collector because its slice does not end. Called on any thread.
    ///
    /// - Returns: The collector that goes on, or `nil` if the slice has ended or ``hungLimit`` calls hang: then
    ///   ``continuation()`` returns one as soon as one of them returns.
    package func successor() -> GarbageCollector? {
        let next = progress.state.withLock { state -> (number: UInt64, seen: [String: Sighting])? in
            guard state.active == number, let subject = state.subject else { return nil }
            state.hanging[number] = subject
            state.active = nil
            state.subject = nil
            return state.hanging.count < Self.hungLimit ? state.activate() : nil
        }
        return next.map { GarbageCollector(volume, disposable, kept, progress, $0.number, $0.seen) }
    }

    /// Ends a slice. Returns the collector that goes on: this one, or another one in its place if this one was replaced
    /// and none goes on; `nil` if one does.
    package func continuation() -> GarbageCollector? {
        let isActive = progress.state.withLock { state -> Bool in
            if state.active == number { state.subject = nil }
            return state.active == number
        }
        guard !isActive else { return self }
        let next = progress.state.withLock { state -> (number: UInt64, seen: [String: Sighting])? in
            state.hanging[number] = nil
            return state.active == nil ? state.activate() : nil
        }
        return next.map { GarbageCollector(volume, disposable, kept, progress, $0.number, $0.seen) }
    }

    /// Records what is examined. Returns `false` if it is passed over, because an earlier call of it hangs.
    private func begin(_ path: String) -> Bool {
        progress.state.withLock { state in
            guard !state.hanging.values.contains(path) else { return false }
            if state.active == number { state.subject = path }
            return true
        }
    }

    // MARK: Deletion

    /// Deletes for the time of a slice, at least one. Returns the rest.
    package func delete(_ deletions: ArraySlice<Deletion>) -> ArraySlice<Deletion> {
        guard (try? volume.requireOwnVolume()) != nil else { return [] }
        let end = volume.now() + Self.sliceTime
        var rest = deletions
        repeat {
            switch rest.popFirst() {
            case .file(let path): volume.unlink(path)
            case .folder(let path): try? volume.files.removeFolder(path)
            case .key(let key, let removal):
                // A later removal of the key is another one.
                seen[VersionName.path(of: removal, key: key)] = nil
                moveToTombs(key, removal)
            case .misplaced(let tomb, let key): moveBack(key, from: tomb)
            case nil: break
            }
        } while !rest.isEmpty && volume.now() < end
        return rest
    }

    private func deletions(of subject: Subject, _ now: NIODeadline) throws(StoreError) -> [Deletion] {
        switch subject {
        case .path(let path):
            // A tomb is read when it is seen first, and again when it is due.
            let isNew = firstSeen[path] == nil
            let isDue = isOlder(path, than: Self.minimumAge, now)
            if isNew || isDue, let key = try misplacedKey(in: path) { return [.misplaced(path, key)] }
            return isDue ? contents(of: path) : []
        case .key(let key, let isDisposable):
            // A stale listing names fewer versions than there are, so fewer of them are deleted.
            let versions = try volume.versions(key, fresh: false)
            guard let top = versions.last else { return [] }
            guard try isRemoval(top, of: key) else {
                return try files(superseded(key, versions).prefix(Self.versionsPerKey), of: key)
            }
            // The versions of the key may begin again.
            pruned[key] = nil
            volume.versionObservations.withLock { $0[key.path] = nil }
            let older = try files(versions.dropLast(), of: key)
            guard !isDisposable else { return older.isEmpty ? [.key(key, removal: top)] : older }
            let isDue = isOlder(VersionName.path(of: top, key: key), than: Self.removalAge, now, isRemoval: true)
            isWaiting = isWaiting || !isDue
            return isDue && older.isEmpty ? [.key(key, removal: top)] : older
        }
    }

    private func isRemoval(_ version: UInt64, of key: StoreKey) throws(StoreError) -> Bool {
        guard values[key] != version else { return false }
        let path = VersionName.path(of: version, key: key)
        let file = try VersionFile(volume.readFile(path, limit: VersionFile.sizeLimit), place: path)
        values[key] = file.isRemoved ? nil : version
        return file.isRemoved
    }

    /// Returns the versions that are not kept. Of a value with a private key these are all before the replaced one: the
    /// last whose content differs from that of the newest version, which a new holder of the lease may have copied.
    private func superseded(_ key: StoreKey, _ versions: [UInt64]) throws(StoreError) -> [UInt64] {
        if StoreLayout.isSecret(key), versions.count > 2, let top = versions.last, pruned[key] != top {
            if let newest = try content(of: top, key) {
                for version in versions.dropLast().suffix(Self.copiesRead).reversed() {
                    guard let bytes = try content(of: version, key), bytes != newest else { continue }
                    guard version == versions[0] else { return versions.filter { $0 < version } }
                }
            }
            pruned[key] = top
        }
        return volume.superseded(key, versions)
    }

    /// Returns the value of a version, or `nil` if the file is damaged or refused.
    private func content(of version: UInt64, _ key: StoreKey) throws(StoreError) -> [UInt8]? {
        let path = VersionName.path(of: version, key: key)
        do {
            return try VersionFile(volume.readFile(path, limit: VersionFile.sizeLimit), place: path).bytes
        } catch {
            switch error.code {
            case .corrupt, .newerFormat, .refused, .tooLarge: return nil
            default: throw error
            }
        }
    }

    /// The files of versions, the newest first. The later ones are made durable before, since the writer of the newest
    /// may have ended without that: a power loss would leave neither.
    private func files(
        _ versions: some BidirectionalCollection<UInt64>,
        of key: StoreKey
    ) throws(StoreError) -> [Deletion] {
        if !versions.isEmpty { try volume.confirm(folder: key.path) }
        return versions.reversed().map { .file(VersionName.path(of: $0, key: key)) }
    }

    private func isOlder(_ path: String, than age: TimeAmount, _ now: NIODeadline, isRemoval: Bool = false) -> Bool {
        var sighting = firstSeen[path] ?? Sighting(since: now)
        if let settled, sighting.since < settled { sighting.settled = sighting.settled ?? now }
        if seen.count < Self.memoryLimit { seen[path] = sighting }
        let isSettled = sighting.settled.map { now - $0 >= Self.settledAge } ?? false
        return now - sighting.since >= age && (isSettled || !isRemoval)
    }

    /// A file, or a folder after its contents.
    private func contents(of path: String, depth: Int = 3) -> [Deletion] {
        guard depth > 0 else { return [] }
        guard let listing = try? volume.files.list(path, fresh: false, limit: 100_000) else { return [.file(path)] }
        return listing.names.flatMap { contents(of: "\(path)/\($0)", depth: depth - 1) } + [.folder(path)]
    }

    // MARK: Tombs

    /// The folders of `tombs/` with the folder of a removed key: `removed-NONCE-PREFIX/NAME`, with "." for "/".
    private static let tombPrefix = "removed-"

    /// Moves the folder of a removed key to `tombs/` in one step; a later round erases it.
    ///
    /// A writer may create the key again at any time, and its version must not be lost: if anything but the removal is
    /// found after the move, the folder is moved back, by any process that sees it. A writer that links a version after
    /// the move finds no folder and creates a new one, which takes precedence.
    private func moveToTombs(_ key: StoreKey, _ removal: UInt64) {
        guard let prefix = key.parent, removals(of: key, in: key.path) == [removal] else { return }
        let tomb = "\(Volume.tombs)/\(Self.tombPrefix)\(volume.nonce())-\(prefix.path.replacing("/", with: "."))"
        guard (try? volume.files.makeFolder(tomb)) != nil else { return }
        // After an error the folder may have been moved.
        try? volume.files.rename(key.path, to: "\(tomb)/\(key.name)")
        if removals(of: key, in: "\(tomb)/\(key.name)") != [removal] { moveBack(key, from: tomb) }
    }

    private func moveBack(_ key: StoreKey, from tomb: String) {
        try? volume.files.rename("\(tomb)/\(key.name)", to: key.path)
        try? volume.confirm(folder: Volume.folder(of: key.path))
        try? volume.files.removeFolder(tomb)
    }

    /// Returns the key whose folder in `tombs/` may hold a value, as after the end of a process between its two moves,
    /// or `nil` if there is none or the key was created again.
    private func misplacedKey(in tomb: String) throws(StoreError) -> StoreKey? {
        let parts = tomb.split(separator: "/").last?.split(separator: "-", maxSplits: 2) ?? []
        guard parts.count == 3, tomb.hasPrefix("\(Volume.tombs)/\(Self.tombPrefix)"),
            let name = try volume.names(in: tomb, fresh: true).first,
            let key = try? StoreKey("\(parts[2].replacing(".", with: "/"))/\(name)"),
            removals(of: key, in: "\(tomb)/\(name)") == nil
        else { return nil }
        return try volume.versions(key, fresh: true).isEmpty ? key : nil
    }

    /// Returns the versions in the folder of a removed key, or `nil` if it may hold a value.
    private func removals(of key: StoreKey, in folder: String) -> [UInt64]? {
        guard let names = try? volume.names(in: folder, fresh: true) else { return nil }
        let versions = names.compactMap { VersionName.version($0, key: key) }.sorted()
        guard let top = versions.last else { return [] }
        let path = "\(folder)/\(VersionName.name(of: top, key: key))"
        guard let bytes = try? volume.readFile(path, limit: VersionFile.sizeLimit),
            let file = try? VersionFile(bytes, place: path), file.isRemoved
        else { return nil }
        return versions
    }
}
