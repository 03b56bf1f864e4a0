package import Formats
import NIOCore
package import Store

/// Makes tokens for agents, and keeps the file that an agent joins by: what `hopgate token create` does.
package struct Enroller: Sendable {
    /// What a token is made for.
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
    }

    package enum Outcome: Sendable {
        /// A new token.
        case made(IssuedToken, Credential)
        /// A token that was there has a new secret, because the file had none that is good for long.
        case renewed(IssuedToken, Credential)
        /// The file had the token, but said something else of the gateway.
        case rewritten(Credential)
        /// All was there.
        case kept(Credential)
    }

    /// Held while it is decided whether a token of a name is there: of several that ask at once one makes it.
    private static let lease: StoreKey = "tokens"

    private let editor: CredentialEditor
    private let store: any Store
    private let enrolment: Enrolment
    private let file: JoinFile?
    private let clock: @Sendable () -> UnixTime

    package init(
        editor: CredentialEditor,
        store: any Store,
        enrolment: Enrolment,
        file: JoinFile?,
        clock: @escaping @Sendable () -> UnixTime = { .now() }
    ) throws(CredentialError) {
        self.editor = editor
        self.store = store
        self.enrolment = enrolment
        self.file = file
        self.clock = clock
        guard let file else { return }
        // Before any token is made that nobody would hear of.
        _ = try file.isThere()
        guard !enrolment.gateways.isEmpty else {
            throw CredentialError(
                .joinFile,
                "\(file.path): cannot be written. \(enrolment.notes.joined(separator: " "))"
            )
        }
    }

    /// Makes a token, and the file if one was named.
    package func create(_ request: Request) async throws(CredentialError) -> Outcome {
        let (token, credential) = try await editor.create(
            name: request.name,
            services: request.services,
            hosts: request.hosts,
            maxAgents: request.maxAgents
        )
        try write(token)
        return .made(token, credential)
    }

    /// Sees to it that a good token of this name is there, and in the file, if one was named. Any number of times, and
    /// by any number of processes at once.
    ///
    /// - Parameter grace: how long the secret that the file had before is accepted, if it gets another.
    package func ensure(_ request: Request, grace: Duration) async throws(CredentialError) -> Outcome {
        var options = LeaseOptions()
        options.patience = .seconds(60)
        let held: any StoreLease
        do throws(StoreError) {
            held = try await store.lease(Self.lease, options)
        } catch {
            throw CredentialError(error)
        }
        let outcome: Result<Outcome, CredentialError>
        do throws(CredentialError) {
            outcome = .success(try await decide(request, grace, held))
        } catch {
            outcome = .failure(error)
        }
        await held.release()
        return try outcome.get()
    }

    private func decide(
        _ request: Request,
        _ grace: Duration,
        _ held: any StoreLease
    ) async throws(CredentialError) -> Outcome {
        let (all, problems) = try await editor.list()
        let good = all.filter { $0.name == request.name && !$0.isRevoked }
        guard let first = good.first else {
            // One that cannot be read may be the one that is asked for.
            if let problem = problems.first { throw problem }
            try await check(held)
            return try await create(request)
        }
        guard let file else { return .kept(first) }
        let found = try file.read().flatMap { enrolment.token(in: $0) }
        let credential = good.first { $0.id == found?.token.id }
        if let (token, isCurrent) = found, let credential, isGoodForLong(token, credential) {
            if isCurrent { return .kept(credential) }
            try write(token)
            return .rewritten(credential)
        }
        guard credential != nil || good.count == 1 else {
            let ids = good.map(\.id).joined(separator: ", ")
            let what = "\(good.count) tokens have the name \"\(request.name)\": \(ids)"
            throw CredentialError(.ambiguous, "\(what); revoke all but the one that \(file.path) is to have")
        }
        try await check(held)
        let (token, renewed) = try await editor.rotate((credential ?? first).id, grace: grace)
        try write(token)
        return .renewed(token, renewed)
    }

    /// Whoever was stopped for longer than the lease lasts does nothing any more.
    private func check(_ held: any StoreLease) async throws(CredentialError) {
        do throws(StoreError) {
            try await held.check()
        } catch {
            throw CredentialError(error)
        }
    }

    /// A secret that was replaced is on its way out, though it may still be accepted.
    private func isGoodForLong(_ token: IssuedToken, _ credential: Credential) -> Bool {
        let hash = SecretHash(of: token.secret)
        return credential.accepts(hash, at: clock())
            && credential.secrets.contains { $0.hash == hash && $0.notAfter == nil }
    }

    private func write(_ token: IssuedToken) throws(CredentialError) {
        guard let file, let text = enrolment.joinString(for: token) else { return }
        do throws(CredentialError) {
            try file.write(text)
        } catch {
            let what = "token \(token.id) has a secret that nobody knows now; once the file can be written, "
            throw CredentialError(error.code, "\(error); \(what)hopgate token create --if-absent gives it another")
        }
    }
}
