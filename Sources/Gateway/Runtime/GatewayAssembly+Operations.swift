import Certificates
import Cluster
import Formats
import Logging
import NIOCore
import Observability
import Settings
import Store
import Synchronization
import Threads
import Transport

/// The ops and admin ports of a running gateway.
extension GatewayAssembly {
    /// Starts the port for probes and scrapes.
    func startOps(_ listeners: GatewayListeners, _ monitor: LoopMonitor, on loop: any EventLoop) async throws
        -> OpsServer
    {
        let (https, http) = (listeners.https.localAddress.text, listeners.http.localAddress.text)
        let dtls = listeners.tunnels.localAddress.text
        let sources = OpsSources(
            metrics: metrics.registry,
            isHealthy: { monitor.allLoopsAreResponsive() },
            readiness: { readiness(https: https, http: http, dtls: dtls) }
        )
        return try await ListenerStart("ops_listen", logger).run(configuration.opsListen) { address in
            try await OpsServer.start(host: address.host, port: address.port, on: loop, sources: sources)
        }
    }

    /// Returns the readiness of this replica, which depends on no agent, no CA and no disk.
    private func readiness(https: String, http: String, dtls: String) -> Readiness {
        let isUp = lifecycle.stage >= .active
        let store = shared.store.state
        return Readiness([
            .init("https", isReady: isUp, detail: https),
            .init("http", isReady: isUp, detail: http),
            .init("dtls", isReady: isUp, detail: dtls),
            .init("certificate", isReady: isUp),
            .init("accepting", isReady: !lifecycle.isDraining, detail: lifecycle.isDraining ? "draining" : nil),
            .init("agents", isReady: registry.count > 0, detail: "\(registry.count) attached", isRequired: false),
            .init("store", isReady: store == .healthy, detail: store.rawValue, isRequired: false),
        ])
    }

    /// - Parameter drain: Requested by `POST /v1/drain`.
    func startAdmin(_ drain: AsyncSignal, on loop: any EventLoop) async throws -> AdminServer {
        let sources = adminSources(drain)
        let tokens = try adminTokens()
        let failures = metrics.registry.counters(
            "admin_auth_failures_total",
            help: "Requests to the admin port without a valid token.",
            label: "reason",
            by: AdminAccess.Failure.self
        )
        let access = AdminAccess(tokens: tokens) { failures[$0].increment() }
        do {
            return try await ListenerStart("admin_listen", logger).run(configuration.adminListen) { address in
                try await AdminServer.start(
                    host: address.host,
                    port: address.port,
                    on: loop,
                    tokens: tokens,
                    responder: AdminResponder(access: access, sources: sources)
                )
            }
        } catch {
            tokens.stop()
            throw error
        }
    }

    private func adminTokens() throws -> AdminTokens {
        let (shared, logger) = (shared, logger)
        guard let file = configuration.adminTokenFile else { return AdminTokens { shared.keyring } }
        do {
            return try AdminTokens(file: file) { problem in
                guard let problem else { return logger.notice("admin token reloaded") }
                logger.error(
                    "admin token not reloaded; the previous one stays valid",
                    metadata: ["error": "\(problem)"]
                )
            }
        } catch {
            throw GatewayStartError(error.description)
        }
    }

    private func adminSources(_ drain: AsyncSignal) -> AdminSources {
        let (certificates, acmeService, edge, registry) = (certificates, acmeService, edge, registry)
        let entries = { @Sendable in
            CertificateEntry.all(certificates.statuses, acmeService?.issuer.statuses ?? [])
        }
        let reports = AdminReports(
            name: configuration.name,
            version: version,
            started: started,
            lifecycle: lifecycle,
            shared: shared,
            presence: presence,
            watch: watch,
            registry: registry,
            connections: { edge.connections.load(ordering: .relaxed) },
            certificates: entries,
            warnings: { acmeService?.warnings(hosts: $0) ?? [] }
        )
        return AdminSources(
            status: { reports.status() },
            replicas: { reports.replicas() },
            agents: { cursor in
                AgentEntry.page(count: registry.count, after: cursor) { id, limit in
                    registry.rows(after: id, limit: limit).map(AgentEntry.init)
                }
            },
            certificates: { CertificateEntry.page(entries(), after: $0) },
            renew: { acmeService?.renew($0) },
            renewal: { acmeService?.jobs.report($0) },
            drain: { drain.send() }
        )
    }
}
