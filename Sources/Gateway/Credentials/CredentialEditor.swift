package import Formats
import Settings
package import Store

/// The credentials as operators change them, from any number of machines at once. Every change is a new version of one
/// document and is made only if nobody else made one meanwhile: else it is read and decided again.
package struct CredentialEditor: Sendable {
    /// Rounds against others who change the same credential.
    private static let attempts = 16
    /// How long a replaced secret is accepted unless somebody says otherwise.
    package static let grace = Duration.seconds(86_400)
    package static let graceRange = Duration.zero ... .seconds(90 * 86_400)

    private let store: any Store
    private let keyring: ClusterKeyring
    private let clock: @Sendable () -> UnixTime

    package init(
        store: any Store,
        keyring: ClusterKeyring,
        clock: @escaping @Sendable () -> UnixTime = { .now() }
    ) {
        self.store = store
        self.keyring = keyring
        self.clock = clock
    }

    // MARK: Making

    /// Makes a token and its document. The secret exists only in what is returned.
    package func create(
        name: String,
        services: [String] = ["*"],
        hosts: [String] = [],
        maxAgents: Int? = nil
    ) async throws(CredentialError) -> (token: IssuedToken, credential: Credential) {
        let token = IssuedToken()
        let document = try Self.document(token, name, services, hosts, maxAgents, clock())
        let key = CredentialDocument.key(id: token.id)
        let bytes = document.sealed(version: 1, with: keyring.signing)
        do throws(StoreError) {
            let version = try await store.create(key, bytes)
            precondition(version == 1, "80 random bits came twice")
        } catch {
            guard await isThere(bytes, at: key, after: error) else { throw CredentialError(error) }
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

    // MARK: Looking

    /// Every credential, in the order of name and id; what cannot be read is told beside them.
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

    /// The one of this id, or all of this name.
    package func find(_ idOrName: String) async throws(CredentialError) -> [Credential] {
        if IssuedToken.isID(idOrName), let document = try await documentIfPresent(id: idOrName) {
            return [document.credential]
        }
        let (all, problems) = try await list()
        // One that cannot be read may be of this name, and gateways may know it still.
        if let problem = problems.first {
            throw CredentialError(problem.code, "\(problem.reason). Until that is mended name tokens by their id")
        }
        let named = all.filter { $0.name == idOrName }
        guard !named.isEmpty else {
            let remedy = "\"hopgate token list\" shows what there is"
            throw CredentialError(.notFound, "no token has the id or name \(quoted(idOrName)); \(remedy)")
        }
        return named
    }

    // MARK: Changing

    /// Gives a token another secret. Those before it are accepted for the grace, so that its agents can be moved.
    ///
    /// - Parameter idOrName: a name must be that of exactly one good token.
    package func rotate(
        _ idOrName: String,
        grace: Duration = grace
    ) async throws(CredentialError) -> (token: IssuedToken, credential: Credential) {
        let found = try await find(idOrName)
        let good = found.filter { !$0.isRevoked }
        guard let credential = good.first else {
            let what = "\(quoted(idOrName)) is revoked"
            throw CredentialError(.revoked, "\(what); make a new token with: hopgate token create \(found[0].name)")
        }
        guard good.count == 1 else { throw Self.ambiguous(idOrName, good, "name one by its id") }
        let token = IssuedToken(id: credential.id)
        let now = clock()
        let changed = try await change(id: credential.id) { document throws(CredentialError) in
            guard !document.credential.isRevoked else {
                throw CredentialError(.revoked, "\(quoted(idOrName)) was revoked meanwhile")
            }
            return document.rotated(to: token.secret, endingOthersAt: now + grace, now: now)
        }
        return (token, changed)
    }

    /// Revokes by id, or by name; agents that use it are cut off within seconds.
    ///
    /// A document of this id that cannot be read is removed: whatever it says, it lets nobody in any more.
    ///
    /// - Parameter all: a name that several good tokens share means all of them; otherwise that is an error.
    /// - Returns: ids of what was revoked; a token that already was is not told again.
    package func revoke(_ idOrName: String, all: Bool = false) async throws(CredentialError) -> [String] {
        let found: [Credential]
        do throws(CredentialError) {
            found = try await find(idOrName)
        } catch {
            guard error.isOfDocument, IssuedToken.isID(idOrName) else { throw error }
            do throws(StoreError) {
                try await store.remove(CredentialDocument.key(id: idOrName), expecting: nil)
            } catch {
                throw CredentialError(error)
            }
            return [idOrName]
        }
        let good = found.filter { !$0.isRevoked }
        guard good.count <= 1 || all else {
            throw Self.ambiguous(idOrName, good, "name one by its id, or revoke all of them with --all")
        }
        let now = clock()
        for credential in good {
            _ = try await change(id: credential.id) { document in
                document.credential.isRevoked ? nil : document.revoked(at: now)
            }
        }
        return good.map(\.id)
    }

    private static func ambiguous(_ name: String, _ good: [Credential], _ remedy: String) -> CredentialError {
        let ids = good.map(\.id).joined(separator: ", ")
        return CredentialError(.ambiguous, "\(good.count) tokens have the name \(quoted(name)): \(ids); \(remedy)")
    }
}

// MARK: The store

extension CredentialEditor {
    /// Reads, decides and writes, again when somebody else was faster.
    ///
    /// - Parameter decide: the document as it shall be; nil: it may stay as it is.
    private func change(
        id: String,
        _ decide: (CredentialDocument) throws(CredentialError) -> CredentialDocument?
    ) async throws(CredentialError) -> Credential {
        let key = CredentialDocument.key(id: id)
        for _ in 0..<Self.attempts {
            let stored: StoredValue
            do throws(StoreError) {
                stored = try await store.read(key)
            } catch {
                throw CredentialError(error)
            }
            let document = try CredentialDocument(stored, id: id, keyring: keyring)
            guard let changed = try decide(document) else { return document.credential }
            let bytes = changed.sealed(version: stored.version + 1, with: keyring.signing)
            do throws(StoreError) {
                _ = try await store.replace(key, expecting: stored.version, bytes)
                return changed.credential
            } catch {
                if case .conflict = error.code { continue }
                guard await isThere(bytes, at: key, after: error) else { throw CredentialError(error) }
                return changed.credential
            }
        }
        throw CredentialError(StoreError(.busy, key.path, "others change it all the time; try again"))
    }

    /// After an error that leaves open whether a change was made: looks.
    private func isThere(_ bytes: [UInt8], at key: StoreKey, after error: StoreError) async -> Bool {
        guard error.isTransient else { return false }
        return (try? await store.read(key))?.bytes == bytes
    }

    private func documentIfPresent(id: String) async throws(CredentialError) -> CredentialDocument? {
        let stored: StoredValue
        do throws(StoreError) {
            stored = try await store.read(CredentialDocument.key(id: id))
        } catch {
            if error.code == .notFound { return nil }
            throw CredentialError(error)
        }
        return try CredentialDocument(stored, id: id, keyring: keyring)
    }

    private func documents() async throws(CredentialError) -> [Result<CredentialDocument, CredentialError>] {
        let found: [StoreReading]
        do throws(StoreError) {
            found = try await store.readAll(CredentialDocument.prefix)
        } catch {
            throw CredentialError(error)
        }
        return found.map { key, outcome in
            do throws(CredentialError) {
                return .success(try CredentialDocument(outcome, id: key.name, keyring: keyring))
            } catch {
                return .failure(error)
            }
        }
    }
}

extension CredentialDocument {
    /// Of what reading a key came to.
    init(_ outcome: Result<StoredValue, StoreError>, id: String, keyring: ClusterKeyring) throws(CredentialError) {
        switch outcome {
        case .success(let stored): try self.init(stored, id: id, keyring: keyring)
        case .failure(let error): throw CredentialError(error)
        }
    }
}
