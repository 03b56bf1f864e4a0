import Formats
import NIOCore
package import Store
import Synchronization

/// Following the store: everything once before agents come, then every change.
extension CredentialCache {
    /// How often keys, ends of secrets, and what could not be read are looked at again.
    private static let interval = Duration.milliseconds(500)
    /// Keys that are read again at a time because they could not be read before.
    private static let retries = 64

    /// Reads everything, before the gateway takes agents. A single document that cannot be used is logged and left out.
    ///
    /// - Throws: when the store cannot be read.
    package func load() async throws(StoreError) {
        let keyring = keyring()
        // Verified and decoded on the threads that read, all at work: of thousands it takes as long as the reading.
        try await store.readAll(CredentialDocument.prefix) { part, count in
            let readings = part.map { CredentialTable.Reading($0.key.name, $0.value, keyring) }
            self.table.withLock { table in
                table.expect(count)
                for reading in readings { table.take(reading) }
            }
        }
        publish()
    }

    /// Keeps the view current until the task is cancelled; call it once.
    ///
    /// - Parameter onChange: called after the view was swapped, whenever something changed.
    package func run(onChange: @escaping @Sendable (CredentialChanges) -> Void) async {
        let changes = store.changes(CredentialDocument.prefix)
        let inbox = Inbox()
        let (wakes, wake) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for await batch in changes {
                    inbox.add(batch)
                    wake.yield()
                }
            }
            group.addTask {
                while !Task.isCancelled {
                    try? await Task.sleep(for: Self.interval)
                    wake.yield()
                }
            }
            var follower = CredentialWatcher(keyring: keyring(), now: clock())
            for await _ in wakes {
                let changes = await look(inbox.take(), &follower)
                if !changes.isEmpty { onChange(changes) }
            }
            group.cancelAll()
        }
    }

    private func look(
        _ arrived: [StoreKey: StoreChange],
        _ follower: inout CredentialWatcher
    ) async -> CredentialChanges {
        let keyring = keyring()
        // What could not be verified may be good under new keys.
        if follower.keyring != keyring || follower.suspects.isEmpty { follower.suspects = table.withLock { $0.bad } }
        follower.keyring = keyring
        for change in arrived.values where isNews(change) { follower.due[change.key] = change }
        let again = follower.takeSuspects(Self.retries)
        if !follower.due.isEmpty || !again.isEmpty { await read(again, &follower, keyring) }
        var changes = publish().map { CredentialTable.changes(from: $0.before, to: $0.now) } ?? CredentialChanges()
        let now = clock()
        let replaced = endedSecrets(from: follower.now, to: now)
        if !replaced.isEmpty { changes.changed = Set(changes.changed).union(replaced).sorted() }
        follower.now = now
        return changes
    }

    /// False for what was read already, as in the first answer of the watch.
    private func isNews(_ change: StoreChange) -> Bool {
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
        _ suspects: [String],
        _ follower: inout CredentialWatcher,
        _ keyring: ClusterKeyring
    ) async {
        var listed: Set<StoreKey>?
        let keys = Set(follower.due.keys).union(suspects.map { CredentialDocument.key(id: $0) })
        for key in keys {
            guard !Task.isCancelled else { return }
            do throws(StoreError) {
                let stored = try await store.read(key)
                take(key, .success(stored), keyring)
                if case .version(let version) = follower.due[key]?.newest, stored.version < version {
                    // An old answer of a network file system: the change stays due.
                    continue
                }
                follower.due[key] = nil
            } catch {
                guard error.code == .notFound else {
                    switch error.code {
                    // The store itself does not answer: nothing is known, and everything stays due.
                    case .stalled, .busy, .gone, .closed: return
                    case .transient, .unconfirmed: continue
                    default: break
                    }
                    take(key, .failure(error), keyring)
                    follower.due[key] = nil
                    continue
                }
                var version: UInt64?
                if case .version(let newest) = follower.due[key]?.newest { version = newest }
                if version != nil || follower.due[key] == nil {
                    // A folder that went away with everything in it is no revocation.
                    if listed == nil { listed = (try? await store.list(CredentialDocument.prefix)).map { Set($0) } }
                    guard listed?.isEmpty == false else { continue }
                }
                table.withLock { $0.remove(key.name, version: version) }
                follower.due[key] = nil
            }
        }
    }

    private func take(_ key: StoreKey, _ outcome: Result<StoredValue, StoreError>, _ keyring: ClusterKeyring) {
        let reading = CredentialTable.Reading(key.name, outcome, keyring)
        table.withLock { $0.take(reading) }
    }

    /// Ids of credentials of which a secret was accepted then and is not now.
    private func endedSecrets(from then: UnixTime, to now: UnixTime) -> [String] {
        guard then < now else { return [] }
        return table.withLock { table in
            table.credentials.values.filter { credential in
                credential.secrets.contains { $0.notAfter.map { then < $0 && $0 <= now } ?? false }
            }.map(\.id)
        }
    }
}

/// What changed and was not looked at yet: as many as there are keys at most.
private final class Inbox: Sendable {
    private let changes = Mutex<[StoreKey: StoreChange]>([:])

    func add(_ batch: [StoreChange]) {
        changes.withLock { changes in for change in batch { changes[change.key] = change } }
    }

    func take() -> [StoreKey: StoreChange] {
        changes.withLock { changes in
            defer { changes = [:] }
            return changes
        }
    }
}

/// What a follower remembers from one look to the next.
private struct CredentialWatcher {
    var keyring: ClusterKeyring
    /// Of the last look.
    var now: UnixTime
    /// Changes that were not taken up yet.
    var due: [StoreKey: StoreChange] = [:]
    /// Ids of documents that could not be used; some of them are read again at each look.
    var suspects: Set<String> = []

    init(keyring: ClusterKeyring, now: UnixTime) {
        self.keyring = keyring
        self.now = now
    }

    mutating func takeSuspects(_ count: Int) -> [String] {
        let taken = Array(suspects.prefix(count))
        suspects.subtract(taken)
        return taken
    }
}
