import Certificates
import Cluster
import Logging
import NIOCore
import Store

/// What follows the store while the gateway runs.
extension GatewayAssembly {
    /// Says once what the volume and its entries are like, from the first look on.
    func report() {
        let (logger, metrics) = (logger, metrics)
        shared.volume?.onProblem { key, problem in
            logger.error(
                "an entry of the store is not used; what was known of it is kept",
                metadata: ["key": "\(key)", "error": "\(problem)"]
            )
        }
        shared.volume?.onOperation { metrics.store($0, took: $1) }
    }

    /// To be cancelled by whoever owns the gateway.
    func follow() -> [Task<Void, Never>] {
        let (credentials, sessions, challenges) = (credentials, sessions, challenges)
        let (presence, registry, shared, watch, logger) = (presence, registry, shared, watch, logger)
        return [
            Task {
                await shared.run {
                    logger.error("the cluster's keys cannot be read again", metadata: ["error": "\($0)"])
                }
            },
            Task { await presence.run() },
            Task {
                while !Task.isCancelled {
                    presence.update { $0.sessions = UInt32(clamping: registry.count) }
                    try? await Task.sleep(for: .seconds(1))
                }
            },
            Task { await credentials.run { sessions.credentialsChanged($0) } },
            Task { await watch.run() },
            Task { if let challenges { await challenges.run() } },
            Task { await StoreStateMonitor.run(shared.store, logger: logger) },
            Task { await selfTest() },
            Task { await followCertificates() },
        ]
    }

    /// Brings every new certificate to the listeners until the task is cancelled.
    private func followCertificates() async {
        let (identities, logger) = (identities, logger)
        await certificates.run(
            onChange: { snapshot in
                do {
                    try identities.replace(snapshot)
                    logger.info("certificates changed", metadata: ["count": "\(snapshot.certificates.count)"])
                } catch {
                    logger.error(
                        "a new certificate cannot be used; the old ones stay",
                        metadata: ["error": "\(error)"]
                    )
                }
            },
            onProblem: { logger.error("a certificate cannot be used", metadata: ["error": "\($0)"]) }
        )
    }

    /// Says once what the volume cannot do. Nothing waits for it.
    private func selfTest() async {
        guard let volume = shared.volume?.volume else { return }
        do throws(StoreError) {
            let report = try await onThread("store-selftest", deadline: .seconds(60), place: volume.files.root) {
                () throws(StoreError) in volume.selfTest()
            }
            for problem in report.problems {
                logger.warning("the volume cannot do what the store needs", metadata: ["problem": "\(problem)"])
            }
        } catch {
            logger.warning("the volume could not be tried", metadata: ["error": "\(error)"])
        }
    }
}
