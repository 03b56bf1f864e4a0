import Certificates
import FoundationEssentials
import Logging
import Store

extension GatewayProcess {
    /// Reads the certificates; the store is closed when there is none to start with.
    static func loadCertificates(
        _ configuration: GatewayConfiguration,
        _ shared: SharedStore,
        _ logger: Logger
    ) async throws(CertificatesError) -> ServedCertificates {
        do {
            let certificates = try await ServedCertificates.open(configuration.servedCertificates, store: shared.store)
            if let root = certificates.developmentRoot {
                var metadata: Logger.Metadata = ["fingerprint": "\(root.pin)"]
                if let path = root.path { metadata["root"] = "\(path)" }
                logger.notice("the development CA covers names that no other certificate does", metadata: metadata)
            }
            return certificates
        } catch {
            shared.close()
            throw error
        }
    }

    /// Nil where ACME is not in use.
    static func makeIssuing(
        _ configuration: GatewayConfiguration,
        _ shared: SharedStore,
        _ challenges: SharedChallenges?,
        _ certificates: ServedCertificates,
        _ router: Router,
        _ version: String,
        _ metrics: GatewayMetrics,
        _ logger: Logger
    ) -> GatewayIssuing? {
        guard let acme = configuration.acme, let challenges else { return nil }
        return GatewayIssuing(
            acme,
            leaseTime: configuration.store.leaseTTL,
            shared: shared,
            challenges: challenges,
            served: certificates,
            isServed: { router.knows(host: $0) },
            environment: ProcessInfo.processInfo.environment,
            version: version,
            metrics: metrics.registry,
            logger: logger
        )
    }

    /// Brings every new certificate to the listeners until the task is cancelled.
    static func follow(_ certificates: ServedCertificates, _ identities: TLSIdentities, _ logger: Logger) async {
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
}
