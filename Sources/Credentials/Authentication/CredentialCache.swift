package import Formats
package import Logging
package import NIOCore
package import Store
import Synchronization
import Threads

/// The credentials against which a running gateway authenticates agents.
///
/// Look-ups read memory from any thread. ``load()`` begins to watch the store, and ``run(onChange:)`` reports changes.
/// A document that cannot be read or is not genuine keeps its last valid version, and is logged once; of many at the
/// same time the first ones are logged by name, and the others as a number.
package final class CredentialCache: Sendable {
    /// The maximum length of a secret in bytes. Longer texts cannot be secrets and are not hashed.
    private static let secretLimit = 256

    /// The longest time without progress while the credentials are loaded.
    private static let patience = TimeAmount.seconds(10)
    /// The interval at which expired secrets are looked for.
    private static let interval = Duration.milliseconds(500)

    private let store: any Store
    private let logger: Logger
    private let clock: @Sendable () -> UnixTime
    private let values: WatchedValues<Credential, CredentialError>
    private let counts = Mutex(Counts())
    private let reports = Mutex(Reports())
    /// The changes since ``load()`` that are not reported yet.
    private let pending = Mutex(CredentialChanges())
    /// The next time at which a secret expires, or `nil` if none does.
    private let nextExpiry = Mutex<UnixTime?>(nil)
    private let changed = AsyncSignal()
    /// A hash that no token has. An unknown id is compared with it, so that the comparison takes as long as for a known
    /// id.
    private let placeholder = SecretHash(of: IssuedToken().secret)

    private struct Counts {
        var statistics = CredentialStatistics()
        var limiter = FailureLimiter()
    }

    private struct Reports {
        var problems = ReportLimiter()
        var repairs = ReportLimiter()
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
        self.logger = logger
        self.clock = clock
        values = WatchedValues { key, stored in
            do throws(CredentialError) {
                return .success(try CredentialDocument(stored, id: key.name, keyring: keyring()).credential)
            } catch {
                return .failure(error)
            }
        }
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
        let credential = IssuedToken.isID(id) ? values[id] : nil
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
        guard let credential = values[id], !credential.isRevoked else { return nil }
        return credential
    }

    /// Whether a session that was authenticated with this secret may continue.
    package func accepts(_ secret: SecretHash, id: String) -> Bool {
        credential(id: id)?.accepts(secret, at: clock()) ?? false
    }

    package var statistics: CredentialStatistics {
        counts.withLock { $0.statistics }
    }

    // MARK: Changes

    /// Reads all credentials. Called before the gateway accepts agents. A document that cannot be used is logged and
    /// left out.
    ///
    /// - Throws: An error of the store if its credentials cannot be read.
    package func load() async throws(StoreError) {
        values.watch(store, .below(CredentialDocument.prefix)) { [weak self] in self?.record($0) }
        if try await !values.waitUntilComplete(patience: Self.patience) {
            logger.warning(
                "credential load incomplete",
                metadata: ["error": "the store does not answer; the other credentials follow when it does"]
            )
        }
        pending.withLock { $0 = CredentialChanges() }
    }

    /// Reads one credential at once, for an agent whose token the watch may not have delivered yet.
    ///
    /// - Throws: An error of the store, `notFound` if it has no such credential.
    package func refresh(id: String, within limit: TimeAmount) async throws(StoreError) {
        let key = CredentialDocument.key(id: id)
        values.insert(try await store.read(key, within: limit), at: key)
    }

    /// Reports changes until the task is cancelled. Called once, after ``load()``.
    ///
    /// - Parameter onChange: Called after credentials have changed. Calls do not overlap.
    package func run(onChange: @escaping @Sendable (CredentialChanges) -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                while (try? await Task.sleep(for: Self.interval)) != nil {
                    self.reportCounted()
                    self.changed.send()
                }
            }
            var then = clock()
            while await changed.wait() {
                let now = clock()
                let expired = expiredSecrets(from: then, to: now)
                then = now
                var changes = pending.withLock { pending in
                    defer { pending = CredentialChanges() }
                    return pending
                }
                changes.changed.formUnion(expired)
                if !changes.isEmpty { onChange(changes) }
            }
            group.cancelAll()
        }
    }

    /// Counts, logs and collects changes. Called on threads of the store.
    private func record(_ batch: [WatchedValues<Credential, CredentialError>.Change]) {
        expect(batch.lazy.compactMap(\.after.value), after: clock())
        counts.withLock { counts in
            for change in batch {
                counts.statistics.count(change.before.value, -1)
                counts.statistics.count(change.after.value, 1)
                counts.statistics.unusable +=
                    (change.after.problem == nil ? 0 : 1) - (change.before.problem == nil ? 0 : 1)
                if let problem = change.newProblem {
                    counts.statistics.faults[CredentialFault(problem), default: 0] += 1
                }
            }
        }
        for change in batch {
            if let problem = change.newProblem {
                guard reports.withLock({ $0.problems.admit() }) else { continue }
                let effect = change.after.value == nil ? "agents with it are refused" : "its last valid version is kept"
                logger.error("credential unusable; \(effect)", metadata: ["error": "\(problem)"])
            } else if change.before.problem != nil, change.after.problem == nil {
                guard reports.withLock({ $0.repairs.admit() }) else { continue }
                let event =
                    switch change.after.value {
                    case nil: "unusable credential removed"
                    case let value?: value.isRevoked ? "unusable credential revoked" : "credential usable again"
                    }
                logger.notice("\(event)", metadata: ["token_id": "\(change.name)"])
            }
        }
        pending.withLock { pending in
            for change in batch where change.isOfValue {
                let wasValid = change.before.value?.isRevoked == false
                let isValid = change.after.value?.isRevoked == false
                switch (wasValid, isValid) {
                case (true, false): pending.ended.insert(change.name)
                case (false, true): pending.added.insert(change.name)
                case (true, true): pending.changed.insert(change.name)
                case (false, false): break
                }
            }
        }
        changed.send()
    }

    /// Logs how many credentials had no line of their own.
    private func reportCounted() {
        let (problems, repairs) = reports.withLock { ($0.problems.settle(), $0.repairs.settle()) }
        if let problems {
            logger.error("more credentials unusable; see hopgate store check", metadata: ["count": "\(problems)"])
        }
        if let repairs { logger.notice("more credentials usable again or removed", metadata: ["count": "\(repairs)"]) }
    }

    /// The ids of the credentials with a secret that expired between the two times.
    private func expiredSecrets(from then: UnixTime, to now: UnixTime) -> [String] {
        // A clock that was set back: what had expired may expire again.
        if now < then { expect(values.entries.values.lazy.compactMap(\.value), after: now) }
        let isDue = nextExpiry.withLock { next in
            guard then < now, let due = next, due <= now else { return false }
            next = nil
            return true
        }
        guard isDue else { return [] }
        let entries = values.entries
        expect(entries.values.lazy.compactMap(\.value), after: now)
        return entries.compactMap { id, entry in
            let isExpired = entry.value?.secrets.contains { $0.notAfter.map { then < $0 && $0 <= now } ?? false }
            return isExpired == true ? id : nil
        }
    }

    /// Records when the secrets of credentials expire.
    private func expect(_ credentials: some Sequence<Credential>, after now: UnixTime) {
        let times = credentials.lazy.flatMap(\.secrets).compactMap(\.notAfter).filter { $0 > now }
        guard let first = times.min() else { return }
        nextExpiry.withLock { $0 = min($0 ?? first, first) }
    }
}
