package import Formats
import NIOCore
package import Store

/// Creates tokens for agents and maintains the join file: the operation behind `hopgate token create`.
package struct Enroller: Sendable {
    /// The properties of the token to create.
    package struct Request: Sendable {
        package var name: String
        package var services: [String]
        package var hosts: [String]
        package var maxAgents: Int?

        package init(name: String, services: [String] = ["*"], hosts: [String] = [], maxAgents: Int? = nil) {
            self.name = name
            self.services = services
            self.hosts = hosts
            self.maxAgents = maxAgents
        }

        /// Returns the properties of an existing token that are not as requested, each with both values.
        package func differences(from credential: Credential) -> [String] {
            let services = services.map { (try? ServicePattern($0))?.description ?? $0 }
            let hosts = hosts.map { (try? HostPattern($0))?.description ?? $0 }
            return [
                Self.difference("services", credential.services.map(\.description), services),
                Self.difference("hosts", credential.hosts.map(\.description), hosts),
                Self.difference("maximum of agents", texts(credential.maxAgents), texts(maxAgents)),
            ].compactMap { $0 }
        }

        private static func difference(_ name: String, _ present: [String], _ requested: [String]) -> String? {
            func text(_ items: [String]) -> String { items.isEmpty ? "none" : items.joined(separator: ", ") }
            return Set(present) == Set(requested) ? nil : "\(name) \(text(present)), not \(text(requested))"
        }

        private func texts(_ number: Int?) -> [String] { number.map { ["\($0)"] } ?? [] }
    }

    package enum Outcome: Sendable {
        /// A new token was created.
        case created(IssuedToken, Credential)
        /// An existing token got a new secret, because that in the file was replaced, or the file had no valid one.
        case renewed(IssuedToken, Credential, wasReplaced: Bool)
        /// The file had the token, but outdated `addresses` or an outdated `pin`, which are named.
        case rewritten(Credential, [String])
        /// The token and the file were up to date.
        case kept(Credential)
    }

    /// The lease that is held while a token is looked up, created or rotated, so that of several concurrent calls for
    /// one name only one creates a token. A new key cannot be fenced, so a token is revoked if the lease was lost
    /// meanwhile. Neither can the file, so the lease is checked before that is written.
    private static let lease: StoreKey = "tokens"

    private let editor: CredentialEditor
    private let store: any Store
    private let enrolment: Enrolment
    private let file: JoinFile?
    private let clock: @Sendable () -> UnixTime
    private let onWait: (@Sendable (LeaseWait) -> Void)?

    /// - Parameter onWait: Called if another process is creating a token; see ``Store/LeaseOptions/onWait``.
    /// - Throws: `joinFile` if the file cannot be written. This is checked before a token is created, since its secret
    ///   would be lost.
    package init(
        editor: CredentialEditor,
        store: any Store,
        enrolment: Enrolment,
        file: JoinFile?,
        clock: @escaping @Sendable () -> UnixTime = { .now() },
        onWait: (@Sendable (LeaseWait) -> Void)? = nil
    ) throws(CredentialError) {
        self.onWait = onWait
        self.editor = editor
        self.store = store
        self.enrolment = enrolment
        self.file = file
        self.clock = clock
        guard let file else { return }
        _ = try file.exists()
        guard !enrolment.gateways.isEmpty else {
            throw CredentialError(
                .joinFile,
                "\(file.path): cannot be written. \(enrolment.notes.joined(separator: " "))"
            )
        }
    }

    /// Creates a token, and the file if one was named.
    package func create(_ request: Request) async throws(CredentialError) -> Outcome {
        try await create(request, under: nil)
    }

    private func create(_ request: Request, under held: (any StoreLease)?) async throws(CredentialError) -> Outcome {
        try await requireReplaceableFile()
        try requireWritableFile()
        let (token, credential) = try await editor.create(
            name: request.name,
            services: request.services,
            hosts: request.hosts,
            maxAgents: request.maxAgents,
            under: held
        )
        do throws(CredentialError) {
            // Without the lease another process may have created one of this name.
            try await check(held)
            try write(token)
        } catch {
            throw await revoked(token, after: error)
        }
        return .created(token, credential)
    }

    /// Revokes a token whose secret is not in the file.
    ///
    /// - Returns: The error to report.
    private func revoked(_ token: IssuedToken, after error: CredentialError) async -> CredentialError {
        do throws(CredentialError) {
            _ = try await editor.revoke(token.id)
            return CredentialError(error.code, "\(error); token \(token.id) was revoked, because its secret is lost")
        } catch let failure {
            let remedy = "revoke the token: hopgate token revoke \(token.id) (\(failure))"
            return CredentialError(error.code, "\(error); \(remedy)")
        }
    }

    /// Ensures that a valid token of this name exists, and is in the file if one was named. Idempotent, and safe to be
    /// called by several processes at once.
    ///
    /// - Parameter grace: The time for which the secret that the file had is accepted after it is replaced.
    package func ensure(_ request: Request, grace: Duration) async throws(CredentialError) -> Outcome {
        var options = LeaseOptions()
        options.patience = .seconds(60)
        options.notBelow = try await editor.highestEpoch()
        options.onWait = onWait
        let held = try await CredentialError.wrapping { () throws(StoreError) in
            try await store.lease(Self.lease, options)
        }
        return try await held.perform { () throws(CredentialError) in try await ensure(request, grace, held) }
    }

    private func ensure(
        _ request: Request,
        _ grace: Duration,
        _ held: any StoreLease
    ) async throws(CredentialError) -> Outcome {
        let (all, problems) = try await editor.list()
        let valid = all.filter { $0.name == request.name && !$0.isRevoked }
        guard let first = valid.first else {
            // A token that cannot be read may have this name.
            if let problem = problems.first { throw problem }
            return try await create(request, under: held)
        }
        guard let file else { return .kept(first) }
        let found = try file.joinString().flatMap { enrolment.token(in: $0) }
        let credential = valid.first { $0.id == found?.token.id }
        if let (token, outdated) = found, let credential, staysValid(token, credential) {
            if outdated.isEmpty { return .kept(credential) }
            try await check(held)
            try write(token)
            return .rewritten(credential, outdated)
        }
        if credential == nil { try await requireReplaceableFile() }
        guard credential != nil || valid.count == 1 else {
            let ids = valid.map(\.id).joined(separator: ", ")
            let what = "\(valid.count) tokens have the name \"\(request.name)\": \(ids)"
            throw CredentialError(.ambiguous, "\(what); revoke all but the one for \(file.path)")
        }
        try requireWritableFile()
        let (token, renewed) = try await editor.rotate((credential ?? first).id, grace: grace, under: held)
        try await check(held)
        do throws(CredentialError) {
            try write(token)
        } catch {
            let words = ["hopgate", "token", "create", request.name, "--if-absent", "--join-file", file.path]
            let command = words.map(shellWord).joined(separator: " ")
            let what = "the new secret of token \(token.id) is lost"
            throw CredentialError(error.code, "\(error); \(what). Once the file can be written, run: \(command)")
        }
        let former = found.map { SecretHash(of: $0.token.secret) }
        return .renewed(token, renewed, wasReplaced: credential?.secrets.contains { $0.hash == former } == true)
    }

    /// Verifies that the file is missing or empty, or holds the join string of a token that is revoked or unknown: the
    /// secret of another token would be lost.
    private func requireReplaceableFile() async throws(CredentialError) {
        guard let file, let token = try file.joinString().flatMap({ enrolment.token(in: $0)?.token }) else { return }
        let what = "\(file.path) holds the join string of token \(token.id)"
        let remedy = "name another file, or delete this one first"
        let found: Credential?
        do throws(CredentialError) {
            found = try await editor.credential(id: token.id)
        } catch {
            throw CredentialError(error.code, "\(what), which cannot be read (\(error)); \(remedy)")
        }
        guard let found, !found.isRevoked else { return }
        throw CredentialError(.joinFile, "\(what) (\"\(found.name)\"): \(remedy)")
    }

    /// Verifies that the file can be written, before the store is changed: a new secret would be lost.
    private func requireWritableFile() throws(CredentialError) {
        guard let file, let text = enrolment.joinString(for: IssuedToken()) else { return }
        try file.requireWritable(text)
    }

    /// Throws if the lease was lost, as when this process was suspended for longer than the lease lasts.
    private func check(_ held: (any StoreLease)?) async throws(CredentialError) {
        try await CredentialError.wrapping { () throws(StoreError) in try await held?.check() }
    }

    /// Whether the secret is accepted and not replaced: a replaced one expires at the end of its grace period.
    private func staysValid(_ token: IssuedToken, _ credential: Credential) -> Bool {
        let hash = SecretHash(of: token.secret)
        return credential.accepts(hash, at: clock())
            && credential.secrets.contains { $0.hash == hash && $0.notAfter == nil }
    }

    private func write(_ token: IssuedToken) throws(CredentialError) {
        guard let file, let text = enrolment.joinString(for: token) else { return }
        try file.write(text)
    }
}
