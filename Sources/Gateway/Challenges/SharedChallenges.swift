package import ACME
package import Certificates
package import Logging
package import NIOCore
package import Observability
package import Store
import Synchronization

/// The HTTP-01 and TLS-ALPN-01 challenges of the whole cluster as this replica knows them. A CA's validators may reach
/// any replica, so every replica answers every challenge. DNS-01 challenges are handled elsewhere.
///
/// A gateway has one instance. Each challenge is a value below `acme/challenges` in the store:
///
/// 1. The replica that runs an order calls ``present(_:)``. It writes the values and returns when all live replicas
///    have seen them, or after ``settlingTime``. Only then does the order machine ask the CA to validate.
/// 2. Every replica watches the values (``watch()``) and creates the TLS contexts in ``ALPNChallenges`` before the
///    watch counts them as seen.
/// 3. Validators are answered on the event loops: HTTP-01 by ``HTTPChallenges``, TLS-ALPN-01 by ``ClientHelloHandler``.
/// 4. The replica that presented the challenges calls ``withdraw(_:)``. Values that are left behind, because a process
///    died or the store failed, are removed by any replica after an hour.
///
/// May be used from any thread except an event loop, since keys and certificates are created here.
package final class SharedChallenges: ChallengePresenter {
    /// The time after which the CA is asked to validate even if some replicas have not seen the challenge: they may be
    /// dead.
    package static let settlingTime = TimeAmount.seconds(3)
    /// The time that ``withdraw(_:)`` may take.
    static let withdrawalTime = TimeAmount.seconds(10)
    private static let attempts = 4
    private static let writtenLimit = 4_096
    /// The number of unusable values of a batch that are logged individually.
    private static let problemLimit = 3
    private static let expiryInterval = Duration.seconds(60)

    let http: HTTPChallenges
    private let store: any Store
    private let waitForOthers: @Sendable (TimeAmount) async -> [Incarnation]
    package let pending: PendingChallenges
    private let keyring: @Sendable () -> ClusterKeyring
    private let logger: Logger
    private let alpn: ALPNChallenges
    /// The challenges that ``alpn`` has, by name of their value, in the order of their sequence numbers. The lock is
    /// held while ``alpn`` is updated, so that updates are not reordered.
    private let installedALPN = Mutex<[String: (task: ChallengeTask, sequence: Int)]>([:])
    /// The versions that this process wrote. It removes only these, not what another replica has presented again since.
    private let written = Mutex<[StoreKey: UInt64]>([:])

    /// - Parameters:
    ///   - keyring: Returns the current keys of the cluster.
    ///   - waitForOthers: Waits until every live replica has acted on what this process has written, at most the
    ///   given time, and returns the others.
    package init(
        store: any Store,
        keyring: @escaping @Sendable () -> ClusterKeyring,
        waitForOthers: @escaping @Sendable (TimeAmount) async -> [Incarnation],
        alpn: ALPNChallenges,
        metrics: MetricsRegistry,
        logger: Logger
    ) {
        self.store = store
        self.keyring = keyring
        pending = PendingChallenges(keyring: keyring)
        self.waitForOthers = waitForOthers
        self.alpn = alpn
        self.logger = logger
        http = HTTPChallenges(pending: pending, store: store, metrics: metrics, logger: logger)
    }

    // MARK: Watching

    /// Begins to watch the challenges. Called once, before this process joins the cluster: from then on others rely on
    /// its answers.
    package func watch() {
        pending.watch(store, .below(ChallengeTask.prefix)) { [weak self] in self?.record($0) }
    }

    /// Reads the values that ``HTTPChallenges`` asks for, and removes expired ones, until the task is cancelled. Called
    /// once.
    package func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.http.run() }
            group.addTask {
                while (try? await Task.sleep(for: Self.expiryInterval)) != nil { await self.removeExpired() }
            }
        }
    }

    private func record(_ changes: [PendingChallenges.Change]) {
        for problem in updateALPN(changes.filter(\.isOfValue).map(\.name)) {
            logger.warning("challenge not answered", metadata: ["error": "\(problem)"])
        }
        let problems = changes.filter { $0.newProblem != nil }
        for change in problems.prefix(Self.problemLimit) {
            let metadata: Logger.Metadata = [
                "key": "\(ChallengeTask.prefix)/\(change.name)", "error": "\(change.newProblem?.reason ?? "")",
            ]
            logger.warning("ACME challenge value unusable", metadata: metadata)
        }
        let more = problems.count - Self.problemLimit
        if more > 0 { logger.warning("more ACME challenge values unusable", metadata: ["count": "\(more)"]) }
    }

    private func removeExpired() async {
        for (name, version) in pending.expired(now: .now()) {
            guard let key = try? ChallengeTask.prefix.child(name) else { continue }
            do throws(StoreError) {
                pending.remove(name, version: try await store.write(key, .remove(version)))
                logger.debug("expired challenge removed from the store", metadata: ["key": "\(key)"])
            } catch {
                if error.isTransient { return }
                // The watch has delivered the removal before this process has read the value. Of one that another
                // replica has replaced, it delivers the next version.
                if error.code == .notFound { pending.remove(name, version: version + 1) }
            }
        }
    }

    // MARK: Presenting

    /// Publishes challenges to all replicas. Returns when every live replica answers them, or after ``settlingTime``;
    /// this replica answers them in any case. The caller has to withdraw them, also after an error.
    ///
    /// - Throws: If the store does not accept the challenges, or this replica cannot answer them.
    package func present(_ tasks: [ChallengeTask]) async throws(PresentationError) {
        let tasks = tasks.filter { $0.kind != .dns01 }
        guard !tasks.isEmpty else { return }
        for task in tasks {
            do throws(StoreError) {
                let version = try await write(task)
                pending.insert(task.storeKey.name, version: version, PendingChallenge(task, since: .now()))
            } catch {
                throw PresentationError(
                    "the \(task.kind) challenge for \(task.name) cannot be shared with the other replicas: \(error)"
                )
            }
        }
        let problems = updateALPN(tasks.map(\.storeKey.name))
        let late = await waitForOthers(Self.settlingTime)
        if !late.isEmpty {
            let metadata: Logger.Metadata = ["replicas": "\(late.map(\.description).joined(separator: " "))"]
            logger.debug("challenges not seen by all replicas", metadata: metadata)
        }
        for task in tasks where !isAnswered(task) {
            let reason = problems.first { $0.path == task.name.description }.map { ": \($0)" } ?? ""
            throw PresentationError("this replica does not answer the \(task.kind) challenge for \(task.name)\(reason)")
        }
    }

    private func isAnswered(_ task: ChallengeTask) -> Bool {
        guard pending[task.storeKey.name]?.task == task else { return false }
        return task.kind == .http01 || alpn.context(for: task.serverName, now: .now()) != nil
    }

    /// Creates the value, or replaces it by a new version that belongs to this process. A former holder of the order,
    /// which may not know yet that it was superseded, then no longer removes it.
    private func write(_ task: ChallengeTask) async throws(StoreError) -> UInt64 {
        let key = task.storeKey
        var failure: StoreError?
        for _ in 0..<Self.attempts {
            do throws(StoreError) {
                let version = try await create(key, task.sealed(with: keyring().signing))
                written.withLock { written in
                    if written.count >= Self.writtenLimit { written.removeAll() }
                    written[key] = version
                }
                return version
            } catch {
                switch error.code {
                // Another replica was faster, the folder was just being removed, or the result is unknown: try again.
                case .conflict, .notFound, .transient, .unconfirmed: failure = error
                default: throw error
                }
            }
        }
        throw failure ?? StoreError(.busy, key.path, "the value kept changing; try again")
    }

    private func create(_ key: StoreKey, _ bytes: [UInt8]) async throws(StoreError) -> UInt64 {
        do throws(StoreError) {
            return try await store.write(key, .create(bytes))
        } catch {
            guard case .exists = error.code else { throw error }
        }
        let found = try await store.read(key)
        if found.bytes == bytes, written.withLock({ $0[key] }) == found.version { return found.version }
        return try await store.write(key, .replace(found.version, bytes))
    }

    // MARK: Withdrawing

    /// Stops answering challenges and removes their values. Takes at most ``withdrawalTime`` and one call of the store;
    /// values that could not be removed expire after an hour.
    package func withdraw(_ tasks: [ChallengeTask]) async {
        let tasks = tasks.filter { $0.kind != .dns01 }
        let end = NIODeadline.now() + Self.withdrawalTime
        var left = 0
        var failure: StoreError?
        for task in tasks {
            let key = task.storeKey
            let version = written.withLock { $0.removeValue(forKey: key) }
            // The version of the removal, whether or not the store accepts it now.
            let removal = version ?? pending.entries[key.name]?.version ?? 0
            pending.remove(key.name, version: removal + 1)
            // A volume that hung during one call would hang during the next one too.
            guard failure?.code != .stalled, NIODeadline.now() < end else {
                left += 1
                continue
            }
            do throws(StoreError) {
                try await store.write(key, .remove(version))
            } catch {
                switch error.code {
                // The value is gone, or another replica has presented it again.
                case .notFound, .conflict: break
                default:
                    failure = error
                    left += 1
                }
            }
        }
        guard let failure else { return }
        logger.info(
            "finished challenges not removed from the store; they expire in an hour",
            metadata: ["count": "\(left)", "error": "\(failure)"]
        )
    }

    // MARK: TLS-ALPN-01

    /// Makes ``ALPNChallenges`` answer the present challenges of these names. Creates keys and certificates, so it must
    /// not be called on an event loop.
    ///
    /// - Returns: The reasons why some challenges are not answered.
    @discardableResult
    private func updateALPN(_ names: [String]) -> [CertificatesError] {
        installedALPN.withLock { installed in
            for name in names {
                let task = pending[name].flatMap { $0.task.kind == .tlsALPN01 ? $0.task : nil }
                guard installed[name]?.task != task else { continue }
                let sequence = (installed.values.lazy.map(\.sequence).max() ?? 0) + 1
                installed[name] = task.map { ($0, sequence) }
            }
            // An update with the same challenges is not superfluous: it prolongs their lifetime.
            return alpn.replace(with: installed.values.sorted { $0.sequence < $1.sequence }.map(\.task))
        }
    }
}
