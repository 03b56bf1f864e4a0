import ACME
import Certificates
import Cluster
import Dispatch
import FoundationEssentials
import Gateway
import Logging
import NIOCore
import Observability
import Settings
import Store
import TestSupport
import Testing

/// The parts of a replica that challenges need, without listeners.
final class ReplicaRig: Sendable {
    let shared: SharedStore
    let presence: ReplicaPresence
    let watch: ReplicaWatch
    let challenges: SharedChallenges
    let alpn: ALPNChallenges
    private let tasks: [Task<Void, Never>]
    private let stuck: StoreWatch?
    private let isStopped = DispatchSemaphore(value: 0)

    /// - Parameters:
    ///   - path: The folder of the store, or `nil` for a store in memory.
    ///   - observes: Whether the replica's watches deliver challenges. Otherwise one of them is stuck.
    init(_ path: String?, observes: Bool = true) async throws {
        var configuration = SharedStoreConfiguration(path: path ?? "")
        configuration.driver = path == nil ? .memory : .volume
        let shared = try await SharedStore.open(configuration)
        let presence = ReplicaPresence(shared: shared, name: "test", version: "test", logger: quiet)
        presence.update { $0.state = .active }
        let watch = ReplicaWatch(
            shared: shared,
            presence: presence,
            sessions: ClusterSessions(specificity: { _, _ in nil }),
            logger: quiet
        )
        let metrics = MetricsRegistry(namespace: "hopgate")
        alpn = ALPNChallenges(metrics: metrics)
        let challenges = SharedChallenges(
            store: shared.store,
            keyring: { shared.keyring },
            waitForOthers: { await watch.waitUntilSeen(within: $0) },
            alpn: alpn,
            metrics: metrics,
            logger: quiet
        )
        challenges.watch()
        stuck =
            observes
            ? nil
            : shared.store.watch(.below(ChallengeTask.prefix)) { [isStopped] _ in
                if isStopped.wait(timeout: .now() + .seconds(60)) == .success { isStopped.signal() }
                return []
            }
        tasks = [Task { await presence.run() }, Task { await watch.run() }, Task { await challenges.run() }]
        (self.shared, self.presence, self.challenges, self.watch) = (shared, presence, challenges, watch)
        try await eventually("the replica has joined") { presence.hasJoined }
    }

    /// Waits until this replica knows this number of others.
    func knows(_ count: Int) async throws {
        try await eventually("\(count) other replicas") {
            self.watch.replicas.count { $0.isLive(now: .now()) } == count + 1
        }
    }

    func stop() {
        isStopped.signal()
        for task in tasks { task.cancel() }
        shared.close()
    }
}

/// Complete gateways that share a folder.
final class ClusterRig: Sendable {
    let gateways: [GatewayProcess]
    let folder: String

    static func with(_ count: Int, log: TestLog? = nil, _ body: (ClusterRig) async throws -> Void) async throws {
        let scratch = ScratchFolder()
        let folder = scratch.file("data")
        var gateways: [GatewayProcess] = []
        for _ in 0..<count {
            var configuration = GatewayConfiguration()
            configuration.acme = .forTests
            configuration.httpListen = ListenAddress(host: "127.0.0.1", port: 0)
            configuration.httpsListen = configuration.httpListen
            configuration.dtlsListen = configuration.httpListen
            configuration.meshListen = configuration.httpListen
            configuration.opsListen = configuration.httpListen
            configuration.adminListen = configuration.httpListen
            configuration.store.path = folder
            configuration.loops = 1
            gateways.append(
                try await GatewayProcess.start(
                    configuration,
                    version: "test",
                    output: nil,
                    logger: log?.logger ?? quiet
                )
            )
        }
        let rig = ClusterRig(gateways: gateways, folder: folder)
        let result: Result<Void, any Error>
        do {
            for gateway in gateways {
                try await eventually("all replicas know each other") {
                    try await gateway.metric(#"hopgate_cluster_replicas{state="active"}"#) == Double(count)
                }
            }
            result = .success(try await body(rig))
        } catch {
            result = .failure(error)
        }
        for gateway in gateways { await gateway.shutDown(grace: .seconds(1)) }
        scratch.remove()
        try result.get()
    }

    private init(gateways: [GatewayProcess], folder: String) {
        self.gateways = gateways
        self.folder = folder
    }
}
