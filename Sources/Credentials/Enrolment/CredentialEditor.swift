package import Formats
import Settings
package import Store

/// The operator's access to the credentials in the store, from any number of machines at once.
///
/// Every change is a new version of one document, written only if the document has not changed since it was read.
/// Otherwise it is read again and the change is repeated.
package struct CredentialEditor: Sendable {
    /// The maximum number of attempts of a change that conflicts with others.
    private static let attempts = 16
    /// The default time for which a replaced secret is accepted.
    package static let grace = Duration.seconds(86_400)
    package static let graceRange = Duration.zero ... .seconds(90 * 86_400)

    private let store: any Store
    private let keyring: ClusterKeyring
    /// The highest number of tokens, the revoked ones included: fewer than readers list, because several may be created
    /// at the same time.
    package static let limit = 190_000
    private let limit: Int
    private let clock: @Sendable () -> UnixTime

    package init(
        store: any Store,
        keyring: ClusterKeyring,
        limit: Int = limit,
        clock: @escaping @Sendable () -> UnixTime = { .now() }
    ) {
        self.store = store
        self.keyring = keyring
        self.limit = limit
        self.clock = clock
    }

    // MARK: Creating

    /// Creates a token and its document. The secret exists only in the returned token.
    ///
    /// - Parameter lease: The lease that fences the write, or `nil`.
    package func create(
        name: String,
        services: [String] = ["*"],
        hosts: [String] = [],
        maxAgents: Int? = nil,
        under lease: (any StoreLease)? = nil
    ) async throws(CredentialError) -> (token: IssuedToken, credential: Credential) {
        let token = IssuedToken()
        let document = try Self.document(token, name, services, hosts, maxAgents, clock())
        let key = CredentialDocument.key(id: token.id)
        let count = try await CredentialError.wrapping { () throws(StoreError) in
            try await store.list(CredentialDocument.prefix).count
        }
        guard count < limit else {
            let what = "the store has \(count) tokens, the revoked ones included, and may have \(limit)"
            throw CredentialError(.invalid, "\(what); give one token to several agents, or use a second store")
        }
        let bytes = document.sealed(version: 1, with: keyring.signing)
        do throws(StoreError) {
            let version = try await store.write(key, .create(bytes), under: lease)
            precondition(version == 1, "an id of 80 random bits is unique")
        } catch {
            guard await wasWritten(bytes, to: key, despite: error) else { throw CredentialError(error) }
        }
        return (token, document.credential)
    }

    private static func document(
        _ token: IssuedToken,
        _ name: String,
        _ services: [String],
        _ hosts: [String],
        _ maxAgents: Int?,
        _ now: UnixTime
    ) throws(CredentialError) -> CredentialDocument {
        guard Credential.isName(name) else {
            throw CredentialError(.invalid, "\(quoted(name)) is not a name; use 1 to 63 of a-z, 0-9 and \"-\"")
        }
        guard max(services.count, hosts.count) <= CredentialDocument.patternLimit else {
            throw CredentialError(.invalid, "a token has at most \(CredentialDocument.patternLimit) services and hosts")
        }
        let range = CredentialDocument.maxAgentsRange
        if let maxAgents, !range.contains(maxAgents) {
            throw CredentialError(.invalid, "the number of agents is from \(range.lowerBound) to \(range.upperBound)")
        }
        do throws(FormatError) {
            return CredentialDocument(
                token: token,
                name: name,
                services: try services.map { text throws(FormatError) in try ServicePattern(text) },
                hosts: try hosts.map { text throws(FormatError) in try HostPattern(text) },
                maxAgents: maxAgents,
                created: now
            )
        } catch {
            throw CredentialError(.invalid, "\(error.what). \(error.remedy)")
        }
    }

    // MARK: Reading

    /// Reads all credentials.
    ///
    /// - Returns: The credentials in the order of name, creation and id, and the errors of those that cannot be read.
    package func list() async throws(CredentialError) -> (credentials: [Credential], problems: [CredentialError]) {
        var credentials: [Credential] = []
        var problems: [CredentialError] = []
        for outcome in try await documents() {
            switch outcome {
            case .success(let document): credentials.append(document.credential)
            case .failure(let problem): problems.append(problem)
            }
        }
        credentials.sort { ($0.name, $0.created, $0.id) < ($1.name, $1.created, $1.id) }
        problems.sort { $0.reason < $1.reason }
        return (credentials, problems)
    }

    /// Reads the highest epoch under which a token was written, for the lease of a caller of
    /// ``rotate(_:grace:under:)``. Tokens are no guards of a lease: each version is sealed with its number. A token
    /// that cannot be used has no say, because its epoch may be anything.
    func highestEpoch() async throws(CredentialError) -> UInt64 {
        let found = try await CredentialError.wrapping { () throws(StoreError) in
            try await store.readAll(CredentialDocument.prefix)
        }
        return found.compactMap { key, stored in
            guard let value = try? stored.get(),
                (try? CredentialDocument(value, id: key.name, keyring: keyring)) != nil
            else { return nil }
            return value.epoch
        }.max() ?? 0
    }

    /// Reads the credential with this id.
    ///
    /// - Returns: `nil` if there is none.
    func credential(id: String) async throws(CredentialError) -> Credential? {
        try await documentIfPresent(id: id)?.credential
    }

    /// Finds the credential with this id, or all credentials with this name.
    package func find(_ idOrName: String) async throws(CredentialError) -> [Credential] {
        if IssuedToken.isID(idOrName), let document = try await documentIfPresent(id: idOrName) {
            return [document.credential]
        }
        let (all, problems) = try await list()
        // A credential that cannot be read may have this name, and gateways may still accept it.
        if let problem = problems.first {
            throw CredentialError(problem.code, "\(problem.reason). Until that is repaired, name tokens by their id")
        }
        let named = all.filter { $0.name == idOrName }
        guard !named.isEmpty else {
            let remedy = "\"hopgate token list\" shows all tokens"
            throw CredentialError(.notFound, "no token has the id or name \(quoted(idOrName)); \(remedy)")
        }
        return named
    }

    // MARK: Changing

    /// Adds a new secret to a token. The previous secrets are accepted for the grace period, in which the agents have
    /// to be given the new one.
    ///
    /// - Parameters:
    ///   - idOrName: An id, or the name of exactly one valid token.
    ///   - lease: The lease that fences the write, or `nil`.
    package func rotate(
        _ idOrName: String,
        grace: Duration = grace,
        under lease: (any StoreLease)? = nil
    ) async throws(CredentialError) -> (token: IssuedToken, credential: Credential) {
        let found = try await find(idOrName)
        let valid = found.filter { !$0.isRevoked }
        guard let credential = valid.first else {
            let remedy = "create a new token with: \(Self.creation(like: found[found.count - 1]))"
            throw CredentialError(.revoked, "\(quoted(idOrName)) is revoked; \(remedy)")
        }
        guard valid.count == 1 else { throw Self.ambiguous(idOrName, valid, "name one by its id") }
        let token = IssuedToken(id: credential.id)
        let now = clock()
        let changed = try await change(id: credential.id, under: lease) { document throws(CredentialError) in
            guard !document.credential.isRevoked else {
                throw CredentialError(.revoked, "\(quoted(idOrName)) was revoked at the same time")
            }
            return document.rotated(to: token.secret, endingOthersAt: now + grace, now: now)
        }
        return (token, changed)
    }

    /// Revokes a token. The sessions of its agents end within seconds.
    ///
    /// A document with this id that cannot be read is removed, so that no secret in it is accepted any more.
    ///
    /// - Parameters:
    ///   - idOrName: An id or a name.
    ///   - all: Whether a name that several valid tokens have means all of them. Otherwise it is an error.
    /// - Returns: The ids of the tokens that were revoked, without those that already were.
    package func revoke(_ idOrName: String, all: Bool = false) async throws(CredentialError) -> [String] {
        let found: [Credential]
        do throws(CredentialError) {
            found = try await find(idOrName)
        } catch {
            guard error.isOfDocument, IssuedToken.isID(idOrName) else { throw error }
            try await CredentialError.wrapping { () throws(StoreError) in
                _ = try await store.write(CredentialDocument.key(id: idOrName), .remove(nil))
            }
            return [idOrName]
        }
        let valid = found.filter { !$0.isRevoked }
        guard valid.count <= 1 || all else {
            throw Self.ambiguous(idOrName, valid, "name one by its id, or revoke all of them with --all")
        }
        let now = clock()
        for (index, credential) in valid.enumerated() {
            do throws(CredentialError) {
                _ = try await change(id: credential.id) { document in
                    document.credential.isRevoked ? nil : document.revoked(at: now)
                }
            } catch {
                guard index > 0 else { throw error }
                let rest = "\(index) of \(valid.count) tokens were revoked before; run this again for the others"
                throw CredentialError(error.code, "\(error); \(rest)")
            }
        }
        return valid.map(\.id)
    }

    /// The command that creates a token with the properties of another one.
    private static func creation(like credential: Credential) -> String {
        var words = ["hopgate", "token", "create", credential.name]
        if credential.services != [.prefix("")] {
            words += credential.services.flatMap { ["--service", $0.description] }
        }
        words += credential.hosts.flatMap { ["--host", $0.description] }
        if let maxAgents = credential.maxAgents { words += ["--max-agents", "\(maxAgents)"] }
        return words.map(shellWord).joined(separator: " ")
    }

    private static func ambiguous(_ name: String, _ valid: [Credential], _ remedy: String) -> CredentialError {
        let ids = valid.map(\.id).joined(separator: ", ")
        return CredentialError(.ambiguous, "\(valid.count) tokens have the name \(quoted(name)): \(ids); \(remedy)")
    }
}

// MARK: The store

extension CredentialEditor {
    /// Reads a document, changes it and writes it, and repeats that after a conflict.
    ///
    /// - Parameter change: Returns the changed document, or `nil` to leave it as it is.
    private func change(
        id: String,
        under lease: (any StoreLease)? = nil,
        _ change: (CredentialDocument) throws(CredentialError) -> CredentialDocument?
    ) async throws(CredentialError) -> Credential {
        let key = CredentialDocument.key(id: id)
        for _ in 0..<Self.attempts {
            let stored = try await CredentialError.wrapping { () throws(StoreError) in try await store.read(key) }
            let document = try CredentialDocument(stored, id: id, keyring: keyring)
            guard let changed = try change(document) else { return document.credential }
            let bytes = changed.sealed(version: stored.version + 1, with: keyring.signing)
            do throws(StoreError) {
                try await store.write(key, .replace(stored.version, bytes), under: lease)
                return changed.credential
            } catch {
                if case .conflict = error.code { continue }
                guard await wasWritten(bytes, to: key, despite: error) else { throw CredentialError(error) }
                return changed.credential
            }
        }
        throw CredentialError(StoreError(.busy, key.path, "it is changed concurrently; try again"))
    }

    /// Reads whether a value was written, after an error that leaves it open.
    private func wasWritten(_ bytes: [UInt8], to key: StoreKey, despite error: StoreError) async -> Bool {
        guard error.isTransient else { return false }
        return (try? await store.read(key))?.bytes == bytes
    }

    private func documentIfPresent(id: String) async throws(CredentialError) -> CredentialDocument? {
        let stored = try await CredentialError.wrapping { () throws(StoreError) in
            try await store.readIfPresent(CredentialDocument.key(id: id))
        }
        guard let stored else { return nil }
        return try CredentialDocument(stored, id: id, keyring: keyring)
    }

    private func documents() async throws(CredentialError) -> [Result<CredentialDocument, CredentialError>] {
        let found = try await CredentialError.wrapping { () throws(StoreError) in
            try await store.readAll(CredentialDocument.prefix)
        }
        return found.map { key, stored in
            do throws(CredentialError) {
                return .success(try CredentialDocument(stored, id: key.name, keyring: keyring))
            } catch {
                return .failure(error)
            }
        }
    }
}
