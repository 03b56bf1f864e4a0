import ACME
import Certificates
import Cluster
import Credentials
import Formats
import FoundationEssentials
import Logging
import NIOCore
import Observability
import Store

/// The parts of a gateway and their wiring, before anything listens.
///
/// The store is opened first, since it holds everything that replicas share; then come the parts that observe it, then
/// those that serve requests from memory.
struct GatewayAssembly: Sendable {
    let configuration: GatewayConfiguration
    let version: String
    let logger: Logger
    let started = NIODeadline.now()

    // Shared by replicas through the store.
    let shared: SharedStore
    let presence: ReplicaPresence
    let watch: ReplicaWatch
    /// The attachments of the other replicas.
    let clusterSessions: ClusterSessions
    /// `nil` without other replicas, whose store is in memory.
    let mesh: Mesh?
    let certificates: ServedCertificates
    let credentials: CredentialCache
    /// `nil` if ACME is not in use, as is ``acmeService``.
    let challenges: SharedChallenges?
    let acmeService: ACMEService?

    // Serving requests.
    let metrics = GatewayMetrics(registry: MetricsRegistry(namespace: "hopgate"))
    let lifecycle = Lifecycle()
    let registry: AgentRegistry
    let edge: EdgeContext
    let identities: TLSIdentities
    let sessions: AgentSessionManager

    /// Opens the store and reads what must be known before the first request.
    ///
    /// - Parameter output: The destination of the access log, or `nil` for none.
    static func open(
        _ configuration: GatewayConfiguration,
        version: String,
        output: LogOutput?,
        logger: Logger
    ) async throws -> GatewayAssembly {
        try await configuration.requireCertificateSource()
        let shared = try await SharedStore.open(configuration.store)
        if shared.isFounder {
            var metadata: Logger.Metadata = ["cluster": "\(shared.cluster.id)", "driver": "\(shared.driver.rawValue)"]
            if shared.driver == .volume { metadata["path"] = "\(configuration.store.path)" }
            logger.notice("cluster founded", metadata: metadata)
        }
        do {
            async let certificates = loadCertificates(configuration, shared, logger)
            async let credentials = loadCredentials(shared, logger)
            return try GatewayAssembly(
                configuration,
                version,
                output,
                logger,
                shared,
                await certificates,
                await credentials
            )
        } catch {
            shared.close()
            throw error
        }
    }

    private init(
        _ configuration: GatewayConfiguration,
        _ version: String,
        _ output: LogOutput?,
        _ logger: Logger,
        _ shared: SharedStore,
        _ certificates: ServedCertificates,
        _ credentials: CredentialCache
    ) throws {
        self.configuration = configuration
        self.version = version
        self.logger = logger
        self.shared = shared
        self.certificates = certificates
        self.credentials = credentials
        presence = ReplicaPresence(shared: shared, name: configuration.name, version: version, logger: logger)
        let clusterSessions = ClusterSessions(
            specificity: { credentials.credential(id: $0)?.specificity(of: $1) }
        )
        self.clusterSessions = clusterSessions
        let watch = ReplicaWatch(shared: shared, presence: presence, sessions: clusterSessions, logger: logger)
        self.watch = watch

        let router = Router(routes: RouteTable(configuration.routes), cluster: { clusterSessions.index })
        let registry = AgentRegistry(router: router, credentials: credentials)
        self.registry = registry
        clusterSessions.onTransfers { transfers in
            let new = transfers.filter { $0.from == nil }
            certificates.cover(names: new.map(\.host.description))
            registry.clusterChanged(transfers)
        }
        let (presence, metrics) = (presence, metrics)
        mesh =
            shared.driver == .memory
            ? nil
            : Mesh(shared: shared, presence: presence, sessions: clusterSessions, logger: logger) { stream in
                let own = presence.incarnation.number
                ForwardedRequest.begin(stream, registry: registry, metrics: metrics, incarnation: own)
            }
        let alpn = ALPNChallenges(metrics: metrics.registry)
        if let acme = configuration.acme {
            let challenges = SharedChallenges(
                store: shared.store,
                keyring: { shared.keyring },
                waitForOthers: { await watch.waitUntilSeen(within: $0) },
                alpn: alpn,
                metrics: metrics.registry,
                logger: logger
            )
            self.challenges = challenges
            acmeService = ACMEService(
                acme,
                leaseTime: configuration.store.leaseTTL,
                shared: shared,
                challenges: challenges,
                served: certificates,
                owner: { router.agent(offering: $0) },
                environment: ProcessInfo.processInfo.environment,
                version: version,
                metrics: metrics.registry,
                logger: logger
            )
        } else {
            challenges = nil
            acmeService = nil
        }
        let proxy = ProxyContext(
            limits: EdgeLimits(timeouts: configuration.timeouts),
            metrics: metrics,
            router: router,
            registry: registry,
            lifecycle: lifecycle,
            accessLog: configuration.logLevel <= .info ? output.map(AccessLog.init) : nil
        )
        edge = EdgeContext(proxy: proxy, alpnChallenges: alpn, httpChallenges: challenges?.http)
        identities = try TLSIdentities(certificates.snapshot, onServerName: acmeService?.onServerName)
        let acmeService = acmeService
        sessions = AgentSessionManager(
            registry: registry,
            credentials: credentials,
            store: shared.store,
            metrics: metrics,
            lifecycle: lifecycle,
            logger: logger,
            hostsChanged: { hosts in
                certificates.cover(names: hosts.map(\.description))
                acmeService?.hostsChanged(hosts)
            }
        )
    }

    private static func loadCertificates(
        _ configuration: GatewayConfiguration,
        _ shared: SharedStore,
        _ logger: Logger
    ) async throws(CertificatesError) -> ServedCertificates {
        var set = shared.certificates
        set.onWait = { logger.notice("start delayed", metadata: ["waiting_for": "\($0)"]) }
        let certificates = try await ServedCertificates.open(
            configuration.servedCertificates(check: TLSIdentities.check),
            store: set
        )
        if let root = certificates.developmentRoot {
            logger.notice("development CA in use", metadata: ["fingerprint": "\(root.pin)"])
        }
        return certificates
    }

    private static func loadCredentials(_ shared: SharedStore, _ logger: Logger) async throws -> CredentialCache {
        let credentials = CredentialCache(store: shared.store, keyring: { shared.keyring }, logger: logger)
        do throws(StoreError) {
            try await credentials.load()
        } catch {
            throw GatewayStartError("the credentials in the store cannot be read: \(error)")
        }
        return credentials
    }
}
