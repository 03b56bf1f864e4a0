package import Formats
package import Logging
package import NIOCore
package import Store
import Synchronization
import Threads

/// The credentials against which a running gateway authenticates agents.
///
/// Look-ups read an immutable snapshot from any thread; ``run(onChange:)`` watches the store and replaces the snapshot as
/// a whole. A document that cannot be read or is not genuine keeps its last valid version, and is logged once.
package final class CredentialCache: Sendable {
    /// The maximum length of a secret in bytes. Longer texts cannot be secrets and are not hashed.
    private static let secretLimit = 256

    let store: any Store
    let keyring: @Sendable () -> ClusterKeyring
    let logger: Logger
    let clock: @Sendable () -> UnixTime
    let table = Mutex(CredentialTable())
    private let snapshot = Mutex<[String: Credential]>([:])
    private let publishedRevision = Mutex<UInt64>(0)
    private let counts = Mutex(Counts())
    /// A hash that no token has. An unknown id is compared with it, so that the comparison takes as long as for a known id.
    private let placeholder = SecretHash(of: IssuedToken().secret)
    /// Wakes the task of ``run(onChange:)``.
    let signal = AsyncSignal()
    /// The changes that ``run(onChange:)`` has not reported yet.
    let unreported = Mutex(CredentialChanges())

    private struct Counts {
        var statistics = CredentialStatistics()
        var limiter = FailureLimiter()
    }

    /// - Parameters:
    ///   - keyring: Returns the present keys of the cluster.
    ///   - clock: The wall clock, by which replaced secrets expire.
    package init(
        store: any Store,
        keyring: @escaping @Sendable () -> ClusterKeyring,
        logger: Logger,
        clock: @escaping @Sendable () -> UnixTime = { .now() }
    ) {
        self.store = store
        self.keyring = keyring
        self.logger = logger
        self.clock = clock
    }

    // MARK: Look-ups

    /// Checks the id and the secret of a token. An unknown id and a wrong, replaced or revoked secret are
    /// indistinguishable to the peer, in the response and in its timing.
    ///
    /// A correct secret is accepted regardless of other failures from the same address.
    package func verify(id: String, secret: String, from address: SocketAddress, now: NIODeadline)
        -> AuthenticationResult
    {
        let (result, isKnown) = check(id: id, secret: secret)
        return counts.withLock { counts in
            guard case .refused(let refusal, _) = result else {
                counts.statistics.granted += 1
                return result
            }
            counts.statistics.refused[refusal, default: 0] += 1
            let wait = counts.limiter.fail(AddressKey(address), id: isKnown ? id : nil, now: now)
            if wait != nil { counts.statistics.limited += 1 }
            return .refused(refusal, retryAfter: wait)
        }
    }

    /// Whether a token is accepted now. Counts nothing.
    package func accepts(id: String, secret: String) -> Bool {
        if case .granted = check(id: id, secret: secret).result { true } else { false }
    }

    private func check(id: String, secret: String) -> (result: AuthenticationResult, isKnown: Bool) {
        let credential = IssuedToken.isID(id) ? snapshot.withLock { $0[id] } : nil
        let hash = SecretHash(of: secret.utf8.count <= Self.secretLimit ? secret : "")
        let found = matching(hash, of: credential)
        let refusal: CredentialRefusal
        switch (credential, found) {
        case (let credential?, let found?) where !credential.isRevoked && found.isAccepted(at: clock()):
            return (.granted(credential, secret: hash), true)
        case (let credential?, _?): refusal = credential.isRevoked ? .revoked : .expiredSecret
        case (_?, nil): refusal = .wrongSecret
        case (nil, _): refusal = .unknown
        }
        return (.refused(refusal, retryAfter: nil), credential != nil)
    }

    /// Compares with the maximum number of hashes that a credential may have, regardless of how many it has.
    private func matching(_ hash: SecretHash, of credential: Credential?) -> Credential.Secret? {
        let secrets = credential?.secrets ?? []
        var found: Credential.Secret?
        for index in 0..<Credential.secretLimit {
            let secret =
                index < secrets.count ? secrets[index] : Credential.Secret(hash: placeholder, notAfter: nil)
            if hash == secret.hash, index < secrets.count { found = secret }
        }
        return found
    }

    /// The present state of a credential, or `nil` if it is revoked or removed. Checked for each stream.
    package func credential(id: String) -> Credential? {
        guard let credential = snapshot.withLock({ $0[id] }), !credential.isRevoked else { return nil }
        return credential
    }

    /// Whether a session that was authenticated with this secret may continue.
    package func accepts(_ secret: SecretHash, id: String) -> Bool {
        credential(id: id)?.accepts(secret, at: clock()) ?? false
    }

    package var statistics: CredentialStatistics {
        counts.withLock { $0.statistics }
    }

    // MARK: The snapshot

    /// Replaces the snapshot with the contents of the table, and logs changed problems.
    ///
    /// - Returns: The previous snapshot and the new one, or `nil` if the table has not changed.
    @discardableResult
    func publish() -> (before: [String: Credential], now: [String: Credential])? {
        publishedRevision.withLock { published in
            let (revision, new, unusable, problems) = table.withLock { table in
                (table.revision, table.credentials, table.unusable.count, table.drainProblemChanges())
            }
            if published == revision { return nil }
            published = revision
            for problem in problems.new {
                logger.error("credential unusable; its last valid version is kept", metadata: ["error": "\(problem)"])
            }
            for id in problems.resolved { logger.notice("credential usable again", metadata: ["token_id": "\(id)"]) }
            let old = snapshot.withLock { snapshot in
                defer { snapshot = new }
                return snapshot
            }
            let valid = new.values.count { !$0.isRevoked }
            counts.withLock { counts in
                counts.statistics.valid = valid
                counts.statistics.revoked = new.count - valid
                counts.statistics.unusable = unusable
                for problem in problems.new { counts.statistics.faults[CredentialFault(problem), default: 0] += 1 }
            }
            return (old, new)
        }
    }
}
