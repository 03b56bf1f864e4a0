package import Formats
package import Logging
package import NIOCore
package import Store
import Synchronization

/// The credentials that a running gateway checks agents against.
///
/// Look-ups read an immutable view that is swapped as a whole, from any thread; ``run(onChange:)`` follows the store and
/// swaps it. What cannot be read or is not genuine keeps the last good view of it and is logged once.
package final class CredentialCache: Sendable {
    /// Longer ones are no tokens of ours and are not even hashed.
    private static let secretLimit = 256

    let store: any Store
    let keyring: @Sendable () -> ClusterKeyring
    let logger: Logger
    let clock: @Sendable () -> UnixTime
    let table = Mutex(CredentialTable())
    private let view = Mutex<[String: Credential]>([:])
    private let shownRevision = Mutex<UInt64>(0)
    private let counts = Mutex(Counts())
    /// An unknown id is compared with this, so that it takes as long as a known one.
    private let nobody = SecretHash(of: IssuedToken().secret)

    private struct Counts {
        var statistics = CredentialStatistics()
        var limiter = FailureLimiter()
    }

    /// - Parameters:
    ///   - keyring: the cluster's keys as they are now.
    ///   - clock: the wall clock, for the ends of replaced secrets.
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

    /// Checks a token's id and secret. Unknown, wrong, replaced and revoked look the same to whoever asks, in answer and
    /// in time.
    ///
    /// A correct secret is granted whatever others from the same address have done.
    package func verify(id: String, secret: String, from address: SocketAddress, now: NIODeadline)
        -> AuthenticationResult
    {
        let credential = IssuedToken.isID(id) ? view.withLock { $0[id] } : nil
        let hash = SecretHash(of: secret.utf8.count <= Self.secretLimit ? secret : "")
        let found = matching(hash, of: credential)
        let refusal: CredentialRefusal
        switch (credential, found) {
        case (let credential?, let found?) where !credential.isRevoked && found.isAccepted(at: clock()):
            counts.withLock { $0.statistics.granted += 1 }
            return .granted(credential, secret: hash)
        case (let credential?, _?): refusal = credential.isRevoked ? .revoked : .expiredSecret
        case (_?, nil): refusal = .wrongSecret
        case (nil, _): refusal = .unknown
        }
        let wait = counts.withLock { counts in
            counts.statistics.refused[refusal, default: 0] += 1
            let wait = counts.limiter.fail(AddressKey(address), id: credential?.id, now: now)
            if wait != nil { counts.statistics.limited += 1 }
            return wait
        }
        return .refused(refusal, retryAfter: wait)
    }

    /// Compares with as many hashes as a credential may have, whether it has them or not.
    private func matching(_ hash: SecretHash, of credential: Credential?) -> Credential.Secret? {
        let secrets = credential?.secrets ?? []
        var found: Credential.Secret?
        for index in 0..<Credential.secretLimit {
            let secret = index < secrets.count ? secrets[index] : Credential.Secret(hash: nobody, notAfter: nil)
            if hash == secret.hash, index < secrets.count { found = secret }
        }
        return found
    }

    /// The credential as it is now; nil when it is revoked or gone. To be asked for each stream.
    package func credential(id: String) -> Credential? {
        guard let credential = view.withLock({ $0[id] }), !credential.isRevoked else { return nil }
        return credential
    }

    /// Whether an agent that came with this secret may stay.
    func accepts(_ secret: SecretHash, id: String) -> Bool {
        credential(id: id)?.accepts(secret, at: clock()) ?? false
    }

    package var statistics: CredentialStatistics {
        counts.withLock { $0.statistics }
    }

    // MARK: The view

    /// Shows what the table holds now, and tells of what is new.
    ///
    /// - Returns: what was shown before and what is shown now; nil if nothing is new.
    @discardableResult
    func publish() -> (before: [String: Credential], now: [String: Credential])? {
        let (revision, new, bad, news) = table.withLock { table in
            (table.revision, table.credentials, table.bad.count, table.takeNews())
        }
        let isShown = shownRevision.withLock { shown in
            defer { shown = revision }
            return shown == revision
        }
        if isShown { return nil }
        for problem in news.problems {
            let metadata: Logger.Metadata = ["error": "\(problem)"]
            logger.error("a credential cannot be used; what was known of it is kept", metadata: metadata)
        }
        for id in news.mended { logger.notice("a credential is in order again", metadata: ["token_id": "\(id)"]) }
        let old = view.withLock { view in
            defer { view = new }
            return view
        }
        let good = new.values.count { !$0.isRevoked }
        counts.withLock { counts in
            counts.statistics.good = good
            counts.statistics.revoked = new.count - good
            counts.statistics.bad = bad
            for problem in news.problems { counts.statistics.faults[CredentialFault(problem), default: 0] += 1 }
        }
        return (old, new)
    }
}
