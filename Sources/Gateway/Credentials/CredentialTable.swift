import Store

/// What is known of every credential, and what is wrong with its document: pure bookkeeping.
///
/// A document that cannot be used keeps what was known of its credential, and is told of once; what is gone is gone.
struct CredentialTable: Sendable {
    /// Credentials at most; further ones are not taken up, which is told once.
    static let limit = 200_000

    struct Entry: Sendable {
        /// The newest version that was genuine, or that said that it was removed.
        var version: UInt64 = 0
        var credential: Credential?
        var problem: CredentialError?
    }

    private(set) var entries: [String: Entry] = [:]
    private(set) var credentials: [String: Credential] = [:]
    /// Ids whose document cannot be used now.
    private(set) var bad: Set<String> = []
    /// Counts the changes of all this.
    private(set) var revision: UInt64 = 0
    private var isFull = false

    /// What taking up documents came to, since the last ``takeNews()``.
    struct News: Sendable {
        /// Problems that were not there before.
        var problems: [CredentialError] = []
        /// Ids whose problem is gone.
        var mended: [String] = []
    }
    private var news = News()

    mutating func takeNews() -> News {
        defer { news = News() }
        return news
    }

    /// What reading a credential came to.
    struct Reading: Sendable {
        let id: String
        let outcome: Result<(version: UInt64, credential: Credential), CredentialError>

        init(_ id: String, _ outcome: Result<StoredValue, StoreError>, _ keyring: ClusterKeyring) {
            self.id = id
            do throws(CredentialError) {
                let document = try CredentialDocument(outcome, id: id, keyring: keyring)
                let version = (try? outcome.get().version) ?? 0
                self.outcome = .success((version, document.credential))
            } catch {
                self.outcome = .failure(error)
            }
        }
    }

    /// So many are about to be taken up.
    mutating func expect(_ count: Int) {
        entries.reserveCapacity(min(count, Self.limit))
        credentials.reserveCapacity(min(count, Self.limit))
    }

    /// Takes it up.
    mutating func take(_ reading: Reading) {
        let id = reading.id
        let before = entries[id]
        var entry = before ?? Entry()
        do throws(CredentialError) {
            guard before != nil || entries.count < Self.limit else { return reportFull() }
            let (version, credential) = try reading.outcome.get()
            var isChanged = entry.problem != nil
            guard version >= entry.version else {
                let place = "\(CredentialDocument.prefix)/\(id)"
                let what = "version \(version) is the newest, but version \(entry.version) was there already"
                let remedy = "somebody removed files by hand; revoke it if it is not to be trusted"
                throw CredentialError(.rolledBack, "\(place): \(what); \(remedy)")
            }
            // The same version says the same: it keeps its identity.
            if version != entry.version || entry.credential == nil {
                entry.credential = credential
                isChanged = true
            }
            entry.version = version
            if isChanged { revision += 1 }
            if entry.problem != nil { news.mended.append(id) }
            entry.problem = nil
            bad.remove(id)
        } catch {
            if entry.problem != error {
                news.problems.append(error)
                revision += 1
            }
            entry.problem = error
            bad.insert(id)
        }
        entries[id] = entry
        credentials[id] = entry.credential
    }

    /// It was removed.
    ///
    /// - Parameter version: the one that says so, below which nothing counts any more; nil: its folder is gone.
    mutating func remove(_ id: String, version: UInt64?) {
        guard entries[id] != nil || entries.count < Self.limit else { return }
        var entry = entries[id] ?? Entry()
        if entry.problem != nil { news.mended.append(id) }
        if entry.problem != nil || entry.credential != nil { revision += 1 }
        entry.version = max(entry.version, version ?? 0)
        entry.credential = nil
        entry.problem = nil
        entries[id] = entry
        credentials[id] = nil
        bad.remove(id)
    }

    private mutating func reportFull() {
        guard !isFull else { return }
        isFull = true
        revision += 1
        news.problems.append(
            CredentialError(
                .malformed,
                "the store has more than \(Self.limit) credentials; the others are not known here"
            )
        )
    }

    /// Of two moments.
    static func changes(from old: [String: Credential], to new: [String: Credential]) -> CredentialChanges {
        var changes = CredentialChanges()
        for (id, before) in old where !before.isRevoked {
            guard let after = new[id], !after.isRevoked else {
                changes.ended.append(id)
                continue
            }
            if after !== before { changes.changed.append(id) }
        }
        for (id, after) in new where !after.isRevoked && old[id]?.isRevoked != false { changes.added.append(id) }
        changes.ended.sort()
        changes.changed.sort()
        changes.added.sort()
        return changes
    }
}
