package import Certificates
package import Cluster
package import Logging
package import NIOCore
package import Observability
package import Store
import Synchronization

/// The HTTP-01 and TLS-ALPN-01 challenges of the whole cluster, as this replica knows them: a CA's validators may come to
/// any replica. DNS-01 is the business of others.
///
/// Each is a value in the store. Whoever has an order presents it; every replica follows the folder (``run()``), answers
/// what it finds there, and says so in its heartbeat. A gateway has one.
package final class SharedChallenges: ChallengePresenter {
    /// A CA is told after this even if some replica has not said that it answers: it may be the one that does not live.
    package static let settlingTime = TimeAmount.seconds(3)
    /// For taking challenges away; what is left goes by itself.
    static let withdrawalTime = TimeAmount.seconds(10)
    private static let attempts = 4
    private static let writtenLimit = 4_096

    let http: HTTPChallenges
    let store: any Store
    let barrier: any StoreChangeBarrier
    let table = ChallengeTable()
    let logger: Logger
    private let alpn: ALPNChallenges
    /// What ``alpn`` was told last. Held while it is told, so that the last to tell knows the most.
    private let told = Mutex<[ChallengeTask]>([])
    /// The versions that this process wrote: it takes away nothing that somebody else has presented again since.
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

    /// Returns when every live replica answers these, or after ``settlingTime``; this one does. Whoever presents
    /// withdraws, also after an error.
    ///
    /// - Throws: when the store does not take them, or this replica cannot answer them.
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
            guard table.take(task, isNew: true) else { throw Self.full(task) }
        }
        let problems = tellALPN()
        let late = await barrier.announceAndWait(within: Self.settlingTime)
        if !late.isEmpty {
            let metadata: Logger.Metadata = ["replicas": "\(late.map(\.description).joined(separator: " "))"]
            logger.debug("some replicas have not said that they answer new challenges", metadata: metadata)
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
        guard table.answers(task) else { return false }
        return task.kind == .http01 || alpn.context(for: task.serverName, now: .now()) != nil
    }

    /// Makes the value, or makes it ours by a new version: then a holder of the order who was overtaken and does not
    /// know it yet does not take it away.
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
                // Others were faster, the folder was swept at this moment, or nobody knows: look again.
                case .conflict, .notFound, .transient, .unconfirmed: failure = error
                default: throw error
                }
            }
        }
        throw failure ?? StoreError(.busy, key.path, "others change it all the time; try again")
    }

    private func create(_ key: StoreKey, _ bytes: [UInt8]) async throws(StoreError) -> UInt64 {
        do throws(StoreError) {
            return try await store.create(key, bytes)
        } catch {
            guard case .exists = error.code else { throw error }
        }
        let found = try await store.read(key)
        if found.bytes == bytes, written.withLock({ $0[key] }) == found.version { return found.version }
        return try await store.replace(key, expecting: found.version, bytes)
    }

    // MARK: Withdrawing

    /// Takes at most ``withdrawalTime`` and one call of the store; what is left goes by itself after an hour.
    package func withdraw(_ tasks: [ChallengeTask]) async {
        let tasks = tasks.filter { $0.kind != .dns01 }
        let end = NIODeadline.now() + Self.withdrawalTime
        var left: [ChallengeTask] = []
        var failure: StoreError?
        for task in tasks {
            // A volume that did not answer for the one does not for the next.
            guard failure?.code != .stalled, NIODeadline.now() < end else {
                left.append(task)
                continue
            }
            let key = task.storeKey
            let version = written.withLock { $0.removeValue(forKey: key) }
            do throws(StoreError) {
                try await store.remove(key, expecting: version)
            } catch {
                switch error.code {
                // It is gone, or somebody else's now.
                case .notFound, .conflict: break
                default:
                    failure = error
                    left.append(task)
                }
            }
        }
        table.drop(tasks)
        _ = tellALPN()
        guard let failure else { return }
        logger.info(
            "challenges that are over could not be taken out of the store; they go by themselves in an hour",
            metadata: ["count": "\(left.count)", "error": "\(failure)"]
        )
    }

    // MARK: TLS-ALPN-01

    /// Brings the table to the listener. It makes keys and certificates: never on a loop.
    ///
    /// - Returns: why some are not answered.
    func tellALPN() -> [CertificatesError] {
        told.withLock { told in
            let tasks = table.alpn
            // Told again, the listener keeps them for longer.
            guard !tasks.isEmpty || !told.isEmpty else { return [] }
            var problems: [CertificatesError] = []
            var challenges: [ALPNChallenge] = []
            for task in tasks {
                do throws(CertificatesError) {
                    challenges.append(try ALPNChallenge(name: task.name, keyAuthorization: task.keyAuthorization))
                } catch { problems.append(error) }
            }
            problems += alpn.replace(with: challenges)
            told = tasks
            return problems
        }
    }
}
