package import ACME
package import Certificates
package import Cluster
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
/// 1. The replica that runs an order calls ``present(_:)``. It writes the values, announces them through its heartbeat,
///    and returns when all live replicas have acknowledged, or after ``settlingTime``. Only then does the order machine ask
///    the CA to validate.
/// 2. Every replica polls the folder (``run()``), updates ``table`` and the TLS contexts in ``ALPNChallenges``, and
///    acknowledges the announcement in its own heartbeat. See `SharedChallenges+Watching.swift` and ``ChallengeWatcher``.
/// 3. Validators are answered on the event loops: HTTP-01 by ``HTTPChallenges``, TLS-ALPN-01 by ``ClientHelloHandler``.
/// 4. The replica that presented the challenges calls ``withdraw(_:)``. Values that are left behind, because a process
///    died or the store failed, are removed by any replica after ``ChallengeWatcher/maximumAge``.
///
/// May be used from any thread except an event loop, since keys and certificates are created here.
package final class SharedChallenges: ChallengePresenter {
    /// The time after which the CA is asked to validate even if some replicas have not acknowledged: they may be dead.
    package static let settlingTime = TimeAmount.seconds(3)
    /// The time that ``withdraw(_:)`` may take.
    static let withdrawalTime = TimeAmount.seconds(10)
    private static let attempts = 4
    private static let writtenLimit = 4_096

    let http: HTTPChallenges
    let store: any Store
    let barrier: any StoreChangeBarrier
    let table = ChallengeTable()
    let logger: Logger
    private let alpn: ALPNChallenges
    /// The challenges that ``alpn`` has. The lock is held while ``alpn`` is updated, so that updates are not reordered.
    private let installedALPN = Mutex<[ChallengeTask]>([])
    /// The versions that this process wrote. It removes only these, not what another replica has presented again since.
    private let written = Mutex<[StoreKey: UInt64]>([:])

    package init(
        store: any Store,
        barrier: any StoreChangeBarrier,
        alpn: ALPNChallenges,
        metrics: MetricsRegistry,
        logger: Logger
    ) {
        self.store = store
        self.barrier = barrier
        self.alpn = alpn
        self.logger = logger
        http = HTTPChallenges(table: table, store: store, metrics: metrics, logger: logger)
    }

    // MARK: Presenting

    /// Publishes challenges to all replicas. Returns when every live replica answers them, or after ``settlingTime``; this
    /// replica answers them in any case. The caller has to withdraw them, also after an error.
    ///
    /// - Throws: If the store does not accept the challenges, or this replica cannot answer them.
    package func present(_ tasks: [ChallengeTask]) async throws(PresentationError) {
        let tasks = tasks.filter { $0.kind != .dns01 }
        guard !tasks.isEmpty else { return }
        for task in tasks {
            do throws(StoreError) {
                try await write(task)
            } catch {
                throw PresentationError(
                    "the \(task.kind) challenge for \(task.name) cannot be shared with the other replicas: \(error)"
                )
            }
            guard table.insert(task, isNew: true) else { throw Self.full(task) }
        }
        let problems = updateALPN()
        let late = await barrier.announceAndWait(within: Self.settlingTime)
        if !late.isEmpty {
            let metadata: Logger.Metadata = ["replicas": "\(late.map(\.description).joined(separator: " "))"]
            logger.debug("challenges not acknowledged by all replicas", metadata: metadata)
        }
        for task in tasks where !isAnswered(task) {
            let reason = problems.first { $0.path == task.name.description }.map { ": \($0)" } ?? ""
            throw PresentationError("this replica does not answer the \(task.kind) challenge for \(task.name)\(reason)")
        }
    }

    private static func full(_ task: ChallengeTask) -> PresentationError {
        PresentationError(
            "\(ChallengeTable.limit) names are being validated already; the \(task.kind) challenge for \(task.name) has"
                + " to wait"
        )
    }

    private func isAnswered(_ task: ChallengeTask) -> Bool {
        guard table.contains(task) else { return false }
        return task.kind == .http01 || alpn.context(for: task.serverName, now: .now()) != nil
    }

    /// Creates the value, or replaces it by a new version that belongs to this process. A former holder of the order,
    /// which may not know yet that it was superseded, then no longer removes it.
    private func write(_ task: ChallengeTask) async throws(StoreError) {
        let key = task.storeKey
        var failure: StoreError?
        for _ in 0..<Self.attempts {
            do throws(StoreError) {
                let version = try await create(key, task.document)
                written.withLock { written in
                    if written.count >= Self.writtenLimit { written.removeAll() }
                    written[key] = version
                }
                return
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
        var left: [ChallengeTask] = []
        var failure: StoreError?
        for task in tasks {
            // A volume that hung during one call would hang during the next one too.
            guard failure?.code != .stalled, NIODeadline.now() < end else {
                left.append(task)
                continue
            }
            let key = task.storeKey
            let version = written.withLock { $0.removeValue(forKey: key) }
            do throws(StoreError) {
                try await store.write(key, .remove(version))
            } catch {
                switch error.code {
                // The value is gone, or another replica has presented it again.
                case .notFound, .conflict: break
                default:
                    failure = error
                    left.append(task)
                }
            }
        }
        table.remove(tasks)
        _ = updateALPN()
        guard let failure else { return }
        logger.info(
            "finished challenges not removed from the store; they expire in an hour",
            metadata: ["count": "\(left.count)", "error": "\(failure)"]
        )
    }

    // MARK: TLS-ALPN-01

    /// Makes ``ALPNChallenges`` answer the challenges in the table. Creates keys and certificates, so it must not be called
    /// on an event loop.
    ///
    /// - Returns: The reasons why some challenges are not answered.
    func updateALPN() -> [CertificatesError] {
        installedALPN.withLock { installed in
            let tasks = table.alpn
            // An update with the same challenges is not superfluous: it prolongs their lifetime.
            guard !tasks.isEmpty || !installed.isEmpty else { return [] }
            let problems = alpn.replace(with: tasks)
            installed = tasks
            return problems
        }
    }
}
