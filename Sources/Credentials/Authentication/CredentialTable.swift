import Store

/// The known credentials and the problems of their documents: bookkeeping without I/O.
///
/// A document that becomes unusable keeps the credential of its last valid version, and is reported once. A credential
/// that is removed is gone at once.
struct CredentialTable: Sendable {
    /// The maximum number of credentials. Further ones are ignored, which is reported once.
    static let limit = 200_000

    struct Entry: Sendable {
        /// The newest genuine version, or the newer version that recorded the removal.
        var version: UInt64 = 0
        var credential: Credential?
        var problem: CredentialError?
    }

    private(set) var entries: [String: Entry] = [:]
    private(set) var credentials: [String: Credential] = [:]
    /// The ids of the documents that are unusable now.
    private(set) var unusable: Set<String> = []
    /// The number of changes of the table.
    private(set) var revision: UInt64 = 0
    private var hasReportedLimit = false

    /// The problems that appeared and disappeared since the last ``drainProblemChanges()``.
    struct ProblemChanges: Sendable {
        var new: [CredentialError] = []
        /// The ids of the documents whose problem is resolved.
        var resolved: [String] = []
    }
    private var problemChanges = ProblemChanges()

    mutating func drainProblemChanges() -> ProblemChanges {
        defer { problemChanges = ProblemChanges() }
        return problemChanges
    }

    /// A document that was read, verified and decoded, or the error of that.
    struct LoadedDocument: Sendable {
        let id: String
        let result: Result<(version: UInt64, credential: Credential), CredentialError>

        init(_ id: String, _ stored: Result<StoredValue, StoreError>, _ keyring: ClusterKeyring) {
            self.id = id
            do throws(CredentialError) {
                let document = try CredentialDocument(stored, id: id, keyring: keyring)
                let version = (try? stored.get().version) ?? 0
                result = .success((version, document.credential))
            } catch {
                result = .failure(error)
            }
        }
    }

    /// Reserves space for the given number of credentials.
    mutating func reserveCapacity(_ count: Int) {
        entries.reserveCapacity(min(count, Self.limit))
        credentials.reserveCapacity(min(count, Self.limit))
    }

    /// Records the present state of one document.
    mutating func apply(_ document: LoadedDocument) {
        let id = document.id
        let before = entries[id]
        var entry = before ?? Entry()
        do throws(CredentialError) {
            guard before != nil || entries.count < Self.limit else { return reportLimit() }
            let (version, credential) = try document.result.get()
            var isChanged = entry.problem != nil
            guard version >= entry.version else {
                let place = "\(CredentialDocument.prefix)/\(id)"
                let what = "version \(version) is the newest, but version \(entry.version) existed before"
                let remedy = "newer files were removed by hand; revoke the token if it is not to be trusted"
                throw CredentialError(.rolledBack, "\(place): \(what); \(remedy)")
            }
            // The same version has the same contents, so the object keeps its identity.
            if version != entry.version || entry.credential == nil {
                entry.credential = credential
                isChanged = true
            }
            entry.version = version
            if isChanged { revision += 1 }
            if entry.problem != nil { problemChanges.resolved.append(id) }
            entry.problem = nil
            unusable.remove(id)
        } catch {
            if entry.problem != error {
                problemChanges.new.append(error)
                revision += 1
            }
            entry.problem = error
            unusable.insert(id)
        }
        entries[id] = entry
        credentials[id] = entry.credential
    }

    /// Records that a document was removed.
    ///
    /// - Parameter version: The version that recorded the removal, below which no version is accepted any more, or `nil`
    ///   if the folder of the document is gone.
    mutating func remove(_ id: String, version: UInt64?) {
        guard entries[id] != nil || entries.count < Self.limit else { return }
        var entry = entries[id] ?? Entry()
        if entry.problem != nil { problemChanges.resolved.append(id) }
        if entry.problem != nil || entry.credential != nil { revision += 1 }
        entry.version = max(entry.version, version ?? 0)
        entry.credential = nil
        entry.problem = nil
        entries[id] = entry
        credentials[id] = nil
        unusable.remove(id)
    }

    private mutating func reportLimit() {
        guard !hasReportedLimit else { return }
        hasReportedLimit = true
        revision += 1
        problemChanges.new.append(
            CredentialError(
                .malformed,
                "the store has more than \(Self.limit) credentials; this gateway ignores the others"
            )
        )
    }

    /// Computes the difference between two snapshots.
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
