import Certificates
import HopProtocol
package import Logging
package import NIOCore
import NIOPosix
package import Observability
import Settings
import Store
import Synchronization
import Transport
import Tunnel

/// A running gateway: its listeners, its agents' sessions, and what keeps both going.
///
/// ``start(_:version:output:logger:)`` returns when every listener is up; ``shutDown(grace:)`` finishes what is in flight.
package final class GatewayProcess: Sendable {
    package let httpsAddress: SocketAddress
    package let httpAddress: SocketAddress
    package let dtlsAddress: SocketAddress
    package let opsAddress: SocketAddress
    package let adminAddress: SocketAddress
    /// The development CA's root, if that is in use; its path is nil with a store in memory.
    package var developmentRoot: (path: String?, pin: String, pem: [UInt8])? {
        parts.certificates.developmentRoot.map { ($0.path, $0.pin, $0.certificatePEM) }
    }
    /// The TLS-ALPN-01 challenges that this replica answers; filled by whoever follows the orders.
    package let challenges: ALPNChallenges
    /// Presents HTTP-01 and TLS-ALPN-01 challenges on all replicas; nil unless the configuration wants them answered.
    package let presenter: SharedChallenges?

    private let parts: Parts

    /// What the process owns.
    struct Parts: Sendable {
        let logger: Logger
        let group: MultiThreadedEventLoopGroup
        let opsGroup: MultiThreadedEventLoopGroup
        let homes: EdgeLoops
        let services: EdgeServices
        let hub: SessionHub
        let shared: SharedStore
        let presence: ReplicaPresence
        let sharedChallenges: SharedChallenges?
        let certificates: ServedCertificates
        let monitor: LoopMonitor
        let sampler: SessionSampler
        var https: EdgeListener
        var http: EdgeListener
        var tunnels: TunnelListener
        var ops: OpsServer
        var admin: AdminServer
        /// The admin port asked for the drain.
        let drain: DrainRequest
        /// What follows the store; ended with the process.
        let tasks: [Task<Void, Never>]
    }

    private init(_ parts: Parts) {
        self.parts = parts
        httpsAddress = parts.https.localAddress
        httpAddress = parts.http.localAddress
        dtlsAddress = parts.tunnels.localAddress
        opsAddress = parts.ops.localAddress
        adminAddress = parts.admin.localAddress
        challenges = parts.services.challenges
        presenter = parts.sharedChallenges
    }

    // MARK: Start

    /// Brings everything up, in the order in which failures are cheapest: files, then HTTPS (its port is ours alone, so
    /// a second process fails here), then agents, plain HTTP, and last what tells others that we are ready.
    ///
    /// - Parameter output: where access lines go; nil writes none.
    package static func start(
        _ configuration: GatewayConfiguration,
        version: String,
        output: LogOutput?,
        logger: Logger
    ) async throws -> GatewayProcess {
        let started = NIODeadline.now()
        let shared = try await SharedStore.open(configuration.store)
        shared.volume?.onProblem { key, problem in
            logger.error(
                "an entry of the store is not used; what was known of it is kept",
                metadata: ["key": "\(key)", "error": "\(problem)"]
            )
        }
        let presence = ReplicaPresence(shared: shared, name: configuration.name, version: version, logger: logger)
        let watch = ReplicaWatch(shared: shared, logger: logger)
        let routes = RouteTable(configuration.routes)
        let certificates = try await loadCertificates(configuration, shared, logger)
        let identities = try TLSIdentities(certificates.snapshot)
        let credentials = KnownCredentials(store: shared.store, keyring: { shared.keyring }, logger: logger)
        do throws(StoreError) {
            try await credentials.load()
        } catch {
            shared.close()
            throw GatewayStartError("the credentials in the store cannot be read: \(error)")
        }

        let metrics = GatewayMetrics(registry: MetricsRegistry(namespace: "hopgate"))
        let lifecycle = Lifecycle()
        let router = Router(routes: routes)
        let registry = SessionRegistry(router: router, credentials: credentials)
        let challenges = ALPNChallenges(metrics: metrics.registry)
        let sharedChallenges =
            configuration.answersChallenges
            ? SharedChallenges(
                store: shared.store,
                announcements: StoreAnnouncements(store: shared.store, presence: presence, watch: watch),
                alpn: challenges,
                metrics: metrics.registry,
                logger: logger
            )
            : nil
        let services = EdgeServices(
            limits: EdgeLimits(configuration.timeouts),
            metrics: metrics,
            router: router,
            registry: registry,
            lifecycle: lifecycle,
            challenges: challenges,
            httpChallenges: sharedChallenges?.http,
            accessLog: configuration.logLevel <= .info ? output.map(AccessLog.init) : nil
        )
        let hub = SessionHub(
            registry: registry,
            credentials: credentials,
            metrics: metrics,
            lifecycle: lifecycle,
            logger: logger,
            hostsChanged: { certificates.cover(names: $0) }
        )

        let group = MultiThreadedEventLoopGroup(numberOfThreads: configuration.loops ?? System.coreCount)
        let opsGroup = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let loops = Array(group.makeIterator()) as [any EventLoop]
        let homes = EdgeLoops(loops)
        await homes.forEach { $0.start() }
        do {
            let listeners = try await bind(configuration, loops, group, homes, identities, services, hub)
            let monitor = LoopMonitor(loops: loops, metrics: metrics.registry)
            metrics.collect(credentials: credentials)
            metrics.collect(certificates: certificates, registry: registry, tunnels: listeners.tunnels)
            metrics.registry.registerProcessMetrics(build: [("version", version)])
            output?.register(in: metrics.registry)
            let addresses = ReadyAddresses(
                https: listeners.https.localAddress.text,
                http: listeners.http.localAddress.text,
                dtls: listeners.tunnels.localAddress.text
            )
            let ops = try await OpsServer.start(
                host: configuration.opsListen.host,
                port: configuration.opsListen.port,
                on: opsGroup.next(),
                sources: OpsSources(
                    metrics: metrics.registry,
                    isHealthy: { monitor.allLoopsTurn() },
                    readiness: { readiness(addresses, lifecycle, registry, shared) }
                )
            )
            metrics.collect(store: shared, replicas: watch)
            shared.volume?.onOperation { metrics.store($0, took: $1) }
            let drain = DrainRequest()
            let reports = AdminReports(
                name: configuration.name,
                version: version,
                started: started,
                lifecycle: lifecycle,
                shared: shared,
                presence: presence,
                watch: watch,
                registry: registry,
                connections: { services.connections.load(ordering: .relaxed) }
            )
            let admin = try await startAdmin(
                configuration,
                on: opsGroup.next(),
                shared: shared,
                metrics: metrics,
                sources: AdminSources(
                    status: { reports.status() },
                    replicas: { reports.replicas() },
                    agents: { reports.agents() },
                    certificates: { AdminReports.certificates(certificates.statuses) },
                    drain: { drain.ask() }
                ),
                logger: logger
            )
            let tasks = [
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
                Task { await credentials.run { hub.credentialsChanged($0) } },
                Task { await watch.run() },
                Task { if let sharedChallenges { await sharedChallenges.run() } },
                Task { await StoreFollower.run(shared.store, logger: logger) },
                Task { await selfTest(shared, logger) },
                Task { await follow(certificates, identities, logger) },
            ]
            let sampler = SessionSampler(hub: hub, loop: group.next())
            sampler.start()
            lifecycle.stage = .active
            presence.update { $0.state = .active }
            let process = GatewayProcess(
                Parts(
                    logger: logger,
                    group: group,
                    opsGroup: opsGroup,
                    homes: homes,
                    services: services,
                    hub: hub,
                    shared: shared,
                    presence: presence,
                    sharedChallenges: sharedChallenges,
                    certificates: certificates,
                    monitor: monitor,
                    sampler: sampler,
                    https: listeners.https,
                    http: listeners.http,
                    tunnels: listeners.tunnels,
                    ops: ops,
                    admin: admin,
                    drain: drain,
                    tasks: tasks
                )
            )
            logger.notice(
                "gateway is ready",
                metadata: [
                    "version": "\(version)",
                    "https": "\(process.httpsAddress.text)",
                    "http": "\(process.httpAddress.text)",
                    "dtls": "\(process.dtlsAddress.text)",
                    "ops": "\(process.opsAddress.text)",
                    "admin": "\(process.adminAddress.text)",
                    "routes": "\(configuration.routes.count)",
                    "loops": "\(loops.count)",
                ]
            )
            return process
        } catch {
            shared.close()
            try? await group.shutdownGracefully()
            try? await opsGroup.shutdownGracefully()
            throw error
        }
    }

    private static func bind(
        _ configuration: GatewayConfiguration,
        _ loops: [any EventLoop],
        _ group: MultiThreadedEventLoopGroup,
        _ homes: EdgeLoops,
        _ identities: TLSIdentities,
        _ services: EdgeServices,
        _ hub: SessionHub
    ) async throws -> (https: EdgeListener, http: EdgeListener, tunnels: TunnelListener) {
        func edge(_ kind: GatewayMetrics.Listener, _ address: ListenAddress) async throws -> EdgeListener {
            do {
                return try await EdgeListener.bind(
                    kind,
                    host: address.host,
                    port: address.port,
                    group: group,
                    homes: homes,
                    identities: kind == .https ? identities : nil,
                    services: services
                )
            } catch {
                throw GatewayStartError("\(kind.rawValue)_listen: cannot listen on \(address): \(error)")
            }
        }
        let https = try await edge(.https, configuration.httpsListen)
        let port = https.localAddress.port ?? configuration.httpsListen.port
        services.httpsPort.store(port, ordering: .relaxed)
        let dtls = configuration.dtlsListen
        // The same port number as HTTPS unless something else was said, also when the system chose it.
        let dtlsPort = dtls.port == configuration.httpsListen.port ? port : dtls.port
        let tunnels: TunnelListener
        do {
            var settings = TunnelListenerConfiguration()
            // Agents open no streams.
            settings.session.tunnel.maxStreams = 0
            settings.session.applicationProtocols = [TLSIdentities.tunnelProtocol]
            let logger = hub.logger
            settings.handshakeFailed = { address, reason in
                logger.debug("a handshake failed", metadata: ["remote": "\(address.text)", "reason": "\(reason)"])
            }
            tunnels = try await TunnelListener.bind(
                host: dtls.host,
                port: dtlsPort,
                loops: loops,
                configuration: settings,
                context: { identities.dtls },
                accept: { _ in AgentSession(hub: hub) }
            )
        } catch {
            throw GatewayStartError("dtls_listen: cannot listen on \(dtls.host):\(dtlsPort)/udp: \(error)")
        }
        let http = try await edge(.http, configuration.httpListen)
        return (https, http, tunnels)
    }

    private struct ReadyAddresses: Sendable {
        var https: String
        var http: String
        var dtls: String
    }

    /// The admin port asked for the drain that SIGTERM begins. For one waiter.
    package func drainRequested() async { await parts.drain.wait() }

    /// Depends on no agent and no disk.
    private static func readiness(
        _ addresses: ReadyAddresses,
        _ lifecycle: Lifecycle,
        _ registry: SessionRegistry,
        _ shared: SharedStore
    ) -> Readiness {
        let isUp = lifecycle.stage >= .active
        let store = shared.store.state
        return Readiness([
            .init("https", isReady: isUp, detail: addresses.https),
            .init("http", isReady: isUp, detail: addresses.http),
            .init("dtls", isReady: isUp, detail: addresses.dtls),
            .init("certificate", isReady: isUp),
            .init("accepting", isReady: !lifecycle.isDraining, detail: lifecycle.isDraining ? "draining" : nil),
            .init("agents", isReady: registry.count > 0, detail: "\(registry.count) attached", isRequired: false),
            .init("store", isReady: store == .healthy, detail: store.rawValue, isRequired: false),
        ])
    }

    /// Stops accepting, lets requests finish for at most `grace`, then ends everything.
    package func shutDown(grace: TimeAmount) async {
        let parts = parts
        let services = parts.services
        services.lifecycle.stage = .draining
        services.metrics.drainState.set(1)
        parts.presence.update { $0.state = .draining }
        parts.hub.sendGoaway(deadline: grace, spread: .zero)
        await parts.https.close()
        await parts.http.close()
        await parts.homes.forEach { $0.drain() }
        let deadline = NIODeadline.now() + grace
        while services.connections.load(ordering: .relaxed) > 0, NIODeadline.now() < deadline {
            try? await Task.sleep(for: .milliseconds(20))
        }
        let left = services.connections.load(ordering: .relaxed)
        if left > 0 {
            parts.logger.warning("the grace is over", metadata: ["connections": "\(left)"])
            await parts.homes.forEach { $0.closeAll() }
        }
        parts.sampler.stop()
        parts.monitor.stop()
        await parts.homes.forEach { $0.stop() }
        await parts.tunnels.close()
        await parts.ops.close()
        await parts.admin.close()
        await parts.presence.leave()
        parts.tasks.forEach { $0.cancel() }
        parts.shared.close()
        try? await parts.group.shutdownGracefully()
        try? await parts.opsGroup.shutdownGracefully()
        parts.logger.notice("gateway has stopped")
    }
}

/// Why the gateway did not start; the text is for the operator.
package struct GatewayStartError: Error, CustomStringConvertible {
    package var description: String

    init(_ description: String) {
        self.description = description
    }
}
