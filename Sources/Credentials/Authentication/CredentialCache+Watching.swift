import Formats
package import NIOCore
package import Store
import Synchronization
import Threads

/// Loading from the store: all credentials before the first agent is accepted, then every change.
extension CredentialCache {
    /// The interval at which keys, expired secrets and unusable documents are checked again.
    private static let interval = Duration.milliseconds(500)
    /// The maximum number of unusable documents that are read again at a time.
    private static let retries = 64

    /// Reads all credentials. Called before the gateway accepts agents. A document that cannot be used is logged and
    /// left out.
    ///
    /// - Throws: An error of the store if its credentials cannot be read.
    package func load() async throws(StoreError) {
        let keyring = keyring()
        // Documents are verified and decoded on the reading threads, so that many of them take no longer than the reads.
        try await store.readAll(CredentialDocument.prefix) { part, count in
            let documents = part.map { CredentialTable.LoadedDocument($0.key.name, $0.value, keyring) }
            self.table.withLock { table in
                table.reserveCapacity(count)
                for document in documents { table.apply(document) }
            }
        }
        publish()
    }

    /// Keeps the snapshot current until the task is cancelled. Called once.
    ///
    /// - Parameter onChange: Called after each replacement of the snapshot that changed a credential.
    package func run(onChange: @escaping @Sendable (CredentialChanges) -> Void) async {
        let changes = store.changes(CredentialDocument.prefix)
        let inbox = Inbox()
        let signal = signal
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for await batch in changes {
                    inbox.add(batch)
                    signal.send()
                }
            }
            group.addTask {
                while !Task.isCancelled {
                    try? await Task.sleep(for: Self.interval)
                    signal.send()
                }
            }
            var watcher = CredentialWatcher(keyring: keyring(), now: clock())
            while await signal.wait() {
                let changes = await poll(inbox.drain(), &watcher)
                if !changes.isEmpty { onChange(changes) }
            }
            group.cancelAll()
        }
    }

    /// Reads one credential at once, for an agent whose token the watch may not have delivered yet.
    ///
    /// - Throws: An error of the store, `notFound` if it has no such credential.
    package func refresh(id: String, within limit: TimeAmount) async throws(StoreError) {
        let stored = try await store.read(CredentialDocument.key(id: id), within: limit)
        // Only a newer version is news. What an older one means is for the watch to find out.
        guard table.withLock({ stored.version > $0.entries[id]?.version ?? 0 }) else { return }
        apply(CredentialDocument.key(id: id), .success(stored), keyring())
        publishChanges()
        signal.send()
    }

    /// Replaces the snapshot. ``run(onChange:)`` reports the changes.
    private func publishChanges() {
        guard let (before, now) = publish() else { return }
        unreported.withLock { $0.formUnion(CredentialTable.changes(from: before, to: now)) }
    }

    private func poll(
        _ arrived: [StoreKey: StoreChange],
        _ watcher: inout CredentialWatcher
    ) async -> CredentialChanges {
        let keyring = keyring()
        // An unusable document may verify with the new keys.
        if watcher.keyring != keyring || watcher.unusable.isEmpty {
            watcher.unusable = table.withLock { $0.unusable }
        }
        watcher.keyring = keyring
        for change in arrived.values where isNew(change) { watcher.due[change.key] = change }
        let again = watcher.popUnusable(Self.retries)
        if !watcher.due.isEmpty || !again.isEmpty { await read(again, &watcher, keyring) }
        publishChanges()
        var changes = unreported.withLock { changes in
            defer { changes = CredentialChanges() }
            return changes
        }
        let now = clock()
        let expired = expiredSecrets(from: watcher.now, to: now)
        if !expired.isEmpty { changes.changed = Set(changes.changed).union(expired).sorted() }
        watcher.now = now
        return changes
    }

    /// Whether the change is unknown to the table. The first batch of a watch contains documents that are loaded already.
    private func isNew(_ change: StoreChange) -> Bool {
        switch change.newest {
        case .version(let version):
            table.withLock { table in
                guard let entry = table.entries[change.key.name], entry.problem == nil else { return true }
                return entry.version != version
            }
        case .generation: false
        case nil: table.withLock { $0.entries[change.key.name] != nil }
        }
    }

    private func read(
        _ unusable: [String],
        _ watcher: inout CredentialWatcher,
        _ keyring: ClusterKeyring
    ) async {
        var listed: Set<StoreKey>?
        let keys = Set(watcher.due.keys).union(unusable.map { CredentialDocument.key(id: $0) })
        for key in keys {
            guard !Task.isCancelled else { return }
            do throws(StoreError) {
                let stored = try await store.read(key)
                apply(key, .success(stored), keyring)
                if case .version(let version) = watcher.due[key]?.newest, stored.version < version {
                    // A network file system returned an outdated value, so the change stays due.
                    continue
                }
                watcher.due[key] = nil
            } catch {
                guard error.code == .notFound else {
                    switch error.code {
                    // The store does not respond, so nothing is known and all changes stay due.
                    case .stalled, .busy, .gone, .closed: return
                    case .transient, .unconfirmed: continue
                    default: break
                    }
                    apply(key, .failure(error), keyring)
                    watcher.due[key] = nil
                    continue
                }
                var version: UInt64?
                if case .version(let newest) = watcher.due[key]?.newest { version = newest }
                if version != nil || watcher.due[key] == nil {
                    // If the whole folder of credentials is missing, the volume is gone, which revokes nothing.
                    if listed == nil { listed = (try? await store.list(CredentialDocument.prefix)).map { Set($0) } }
                    guard listed?.isEmpty == false else { continue }
                }
                table.withLock { $0.remove(key.name, version: version) }
                watcher.due[key] = nil
            }
        }
    }

    private func apply(_ key: StoreKey, _ stored: Result<StoredValue, StoreError>, _ keyring: ClusterKeyring) {
        let document = CredentialTable.LoadedDocument(key.name, stored, keyring)
        table.withLock { $0.apply(document) }
    }

    /// The ids of the credentials with a secret that expired between the two times.
    private func expiredSecrets(from then: UnixTime, to now: UnixTime) -> [String] {
        guard then < now else { return [] }
        return table.withLock { table in
            table.credentials.values.filter { credential in
                credential.secrets.contains { $0.notAfter.map { then < $0 && $0 <= now } ?? false }
            }.map(\.id)
        }
    }
}

/// The changes of the store that are not processed yet, at most one for each key.
private final class Inbox: Sendable {
    private let changes = Mutex<[StoreKey: StoreChange]>([:])

    func add(_ batch: [StoreChange]) {
        changes.withLock { changes in for change in batch { changes[change.key] = change } }
    }

    func drain() -> [StoreKey: StoreChange] {
        changes.withLock { changes in
            defer { changes = [:] }
            return changes
        }
    }
}

/// The state that is kept from one poll to the next.
private struct CredentialWatcher {
    var keyring: ClusterKeyring
    /// The time of the last poll.
    var now: UnixTime
    /// The changes that are not processed yet.
    var due: [StoreKey: StoreChange] = [:]
    /// The ids of unusable documents that are still to be read again; each poll reads some of them.
    var unusable: Set<String> = []

    init(keyring: ClusterKeyring, now: UnixTime) {
        self.keyring = keyring
        self.now = now
    }

    mutating func popUnusable(_ count: Int) -> [String] {
        let popped = Array(unusable.prefix(count))
        unusable.subtract(popped)
        return popped
    }
}
