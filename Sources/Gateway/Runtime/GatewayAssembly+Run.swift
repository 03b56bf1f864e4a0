import Certificates
import Cluster
import Credentials
import Logging
import NIOCore
import Store
import Synchronization
import Threads

/// The background work of a gateway: everything that observes the store.
extension GatewayAssembly {
    /// Installs the reports of the store.
    func observeStore() {
        let metrics = metrics
        shared.store.onOperation { metrics.store($0, took: $1) }
    }

    /// Observes the store until the task is cancelled. Called once, by the owner of the gateway.
    func run() async {
        let logger = logger
        // What has joined the cluster is expected to see the challenges of others.
        challenges?.watch()
        await withDiscardingTaskGroup { group in
            group.addTask {
                await shared.run { problem in
                    guard let problem else { return logger.notice("cluster keys reloaded") }
                    logger.error(
                        "cluster keys not reloaded; the previous ones stay valid",
                        metadata: ["error": "\(problem)"]
                    )
                }
            }
            group.addTask { await presence.run() }
            group.addTask { await publishSessionCount() }
            group.addTask { await SessionPublisher(registry: registry, presence: presence).run() }
            group.addTask { await reportThreadFailures() }
            group.addTask {
                await credentials.run { changes in
                    sessions.credentialsChanged(changes)
                    clusterSessions.update(tokens: changes.ended.union(changes.changed).union(changes.added))
                }
            }
            group.addTask { await sessions.lookup.run() }
            group.addTask { await watch.run() }
            if let mesh { group.addTask { [watch] in await mesh.run { watch.replicas } } }
            if let challenges { group.addTask { await challenges.run() } }
            group.addTask { await StoreStateMonitor.run(shared.store, logger: logger) }
            group.addTask { await selfTest() }
            group.addTask { await serveCertificates() }
        }
    }

    /// Keeps the number of sessions in this replica's heartbeat current.
    private func publishSessionCount() async {
        while !Task.isCancelled {
            presence.update { $0.sessions = UInt32(clamping: registry.count) }
            try? await Task.sleep(for: .seconds(1))
        }
    }

    /// Reports threads that could not be started, at most once per minute. Their owners try again.
    private func reportThreadFailures() async {
        var reported = 0
        while (try? await Task.sleep(for: .seconds(1))) != nil {
            let count = ThreadLimit.failureCount
            guard count > reported else { continue }
            reported = count
            logger.error(
                "thread start failed; retrying",
                metadata: ["count": "\(count)", "remedy": "\(ThreadLimit.remedy)"]
            )
            try? await Task.sleep(for: .seconds(59))
        }
    }

    /// Gives every new set of certificates to the listeners until the task is cancelled.
    private func serveCertificates() async {
        let (identities, certificates, logger) = (identities, certificates, logger)
        let previous = Mutex(certificates.snapshot)
        let knownPin = Mutex(certificates.developmentRoot?.pin)
        await certificates.run(
            onChange: { snapshot in
                do {
                    try identities.replace(snapshot)
                    let names = previous.withLock { previous in
                        defer { previous = snapshot }
                        return snapshot.names(changedSince: previous)
                    }
                    let more = names.count > 10 ? " and \(names.count - 10) more" : ""
                    var metadata: Logger.Metadata = ["count": "\(snapshot.certificates.count)"]
                    if !names.isEmpty { metadata["names"] = "\(names.prefix(10).joined(separator: ", "))\(more)" }
                    logger.info("certificates changed", metadata: metadata)
                    guard let pin = certificates.developmentRoot?.pin else { return }
                    let before = knownPin.withLock { known in
                        defer { known = pin }
                        return known
                    }
                    if before != pin {
                        let event = before == nil ? "development CA in use" : "development root replaced"
                        logger.notice("\(event)", metadata: ["fingerprint": "\(pin)"])
                    }
                } catch {
                    logger.error(
                        "certificates not replaced; the previous ones stay in use",
                        metadata: ["error": "\(error)"]
                    )
                }
            },
            onProblem: { logger.error("certificate unusable", metadata: ["error": "\($0)"]) }
        )
    }

    /// Tests the volume once and logs the features that it lacks. Nothing waits for the result.
    private func selfTest() async {
        do throws(StoreError) {
            for problem in try await shared.store.selfTest().problems {
                logger.warning("volume cannot do what the store needs", metadata: ["problem": "\(problem)"])
            }
        } catch {
            guard !Task.isCancelled else { return }
            logger.warning("volume self-test failed", metadata: ["error": "\(error)"])
        }
    }
}
