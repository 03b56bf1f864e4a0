import Certificates
import Cluster
package import Logging
package import NIOCore
import NIOPosix
package import Observability
import Settings
import Store
import Synchronization
import Threads
import Transport

/// A running gateway: its listeners, its agents' sessions and its background work.
///
/// ``start(_:version:output:logger:)`` returns when every listener is up; ``shutDown(grace:)`` lets requests in flight
/// finish and ends everything.
package final class GatewayProcess: Sendable {
    package let httpsAddress: SocketAddress
    package let httpAddress: SocketAddress
    package let dtlsAddress: SocketAddress
    package let opsAddress: SocketAddress
    package let adminAddress: SocketAddress
    /// The root of the development CA, or `nil` if that is not in use.
    package var developmentRoot: (pin: String, pem: [UInt8])? {
        assembly.certificates.developmentRoot.map { ($0.pin, $0.certificatePEM) }
    }
    /// The TLS-ALPN-01 challenges that this replica answers.
    package var challenges: ALPNChallenges { assembly.edge.alpnChallenges }
    /// Presents HTTP-01 and TLS-ALPN-01 challenges on all replicas; `nil` if ACME is not in use.
    package var presenter: SharedChallenges? { assembly.challenges }

    private let assembly: GatewayAssembly
    private let parts: Parts

    /// The running parts, which end with the process.
    private struct Parts: Sendable {
        let group: MultiThreadedEventLoopGroup
        let opsGroup: MultiThreadedEventLoopGroup
        let states: EdgeLoopStates
        let listeners: GatewayListeners
        let ops: OpsServer
        let admin: AdminServer
        /// Requested by the admin port.
        let drain: AsyncSignal
        let monitor: LoopMonitor
        let sampler: SessionSampler
        /// Runs the background work of the assembly.
        let background: Task<Void, Never>
    }

    private init(_ assembly: GatewayAssembly, _ parts: Parts) {
        self.assembly = assembly
        self.parts = parts
        httpsAddress = parts.listeners.https.localAddress
        httpAddress = parts.listeners.http.localAddress
        dtlsAddress = parts.listeners.tunnels.localAddress
        opsAddress = parts.ops.localAddress
        adminAddress = parts.admin.localAddress
    }

    /// The number of other replicas that this one has a session with.
    package var connectedReplicas: Int { assembly.mesh?.counts.connected ?? 0 }

    // MARK: Start

    /// Starts everything, in the order in which failures are cheapest: files and the store, then HTTPS, tunnels and
    /// plain HTTP, and last readiness.
    ///
    /// - Parameter output: The destination of the access log, or `nil` for none.
    /// - Throws: ``GatewayStartError``, or an error of the store or of a certificate. Everything started is stopped.
    package static func start(
        _ configuration: GatewayConfiguration,
        version: String,
        output: LogOutput?,
        logger: Logger
    ) async throws -> GatewayProcess {
        // The event loops, those for the resolution of names, and the gateway's own. SwiftNIO would end the process.
        let loops = configuration.loops ?? System.coreCount
        guard ThreadLimit.allows(loops + System.coreCount + 8) else {
            throw GatewayStartError("\(loops + System.coreCount + 8) threads are needed: \(ThreadLimit.message)")
        }
        let assembly = try await GatewayAssembly.open(configuration, version: version, output: output, logger: logger)
        assembly.observeStore()
        await configuration.reportReadableSecrets(logger)
        configuration.reportOpenAdmin(logger)
        let group = MultiThreadedEventLoopGroup(numberOfThreads: loops)
        let opsGroup = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        do {
            let process = GatewayProcess(assembly, try await run(assembly, group, opsGroup))
            CollectedMetrics.register(assembly, process.parts.listeners.tunnels)
            output?.register(in: assembly.metrics.registry)
            assembly.lifecycle.stage = .active
            assembly.presence.update { $0.state = .active }
            assembly.acmeService?.start()
            process.logReady()
            return process
        } catch {
            assembly.shared.close()
            try? await group.shutdownGracefully()
            try? await opsGroup.shutdownGracefully()
            throw error
        }
    }

    private static func run(
        _ assembly: GatewayAssembly,
        _ group: MultiThreadedEventLoopGroup,
        _ opsGroup: MultiThreadedEventLoopGroup
    ) async throws -> Parts {
        let loops = Array(group.makeIterator()) as [any EventLoop]
        let states = EdgeLoopStates(loops)
        await states.forEach { $0.start() }
        let listeners = try await GatewayListeners.bind(assembly, loops, group, states)
        let monitor = LoopMonitor(loops: loops, metrics: assembly.metrics.registry)
        let drain = AsyncSignal()
        let ops = try await assembly.startOps(listeners, monitor, on: opsGroup.next())
        let admin = try await assembly.startAdmin(drain, on: opsGroup.next())
        let sampler = SessionSampler(manager: assembly.sessions, loop: group.next())
        sampler.start()
        return Parts(
            group: group,
            opsGroup: opsGroup,
            states: states,
            listeners: listeners,
            ops: ops,
            admin: admin,
            drain: drain,
            monitor: monitor,
            sampler: sampler,
            background: Task { await assembly.run() }
        )
    }

    private func logReady() {
        assembly.logger.notice(
            "gateway ready",
            metadata: [
                "version": "\(assembly.version)",
                "https": "\(httpsAddress.text)",
                "http": "\(httpAddress.text)",
                "dtls": "\(dtlsAddress.text)",
                "mesh": "\(parts.listeners.mesh?.text ?? "none")",
                "ops": "\(opsAddress.text)",
                "admin": "\(adminAddress.text)",
                "routes": "\(assembly.configuration.routes.count)",
                "loops": "\(assembly.configuration.loops ?? System.coreCount)",
            ]
        )
    }

    // MARK: End

    /// Returns once the admin port has requested a shutdown, or when the task is cancelled. For one waiter.
    package func drainRequested() async { await parts.drain.wait() }

    /// Stops accepting, lets requests finish for at most `grace`, then ends everything.
    package func shutDown(grace: TimeAmount) async {
        let (edge, logger) = (assembly.edge, assembly.logger)
        assembly.lifecycle.stage = .draining
        assembly.metrics.drainState.set(1)
        assembly.presence.update { $0.state = .draining }
        assembly.sessions.sendGoaway(deadline: grace, spread: .zero)
        await parts.listeners.https.close()
        await parts.listeners.http.close()
        await parts.states.forEach { $0.drain() }
        let deadline = NIODeadline.now() + grace
        // Another replica that waits for the lease of an order can continue it now.
        await assembly.acmeService?.stop()
        // Requests of other replicas have no connection here.
        while edge.connections.load(ordering: .relaxed) > 0 || assembly.registry.requestsInFlight > 0,
            NIODeadline.now() < deadline
        {
            try? await Task.sleep(for: .milliseconds(20))
        }
        let left = edge.connections.load(ordering: .relaxed)
        if left > 0 {
            logger.warning("shutdown grace expired", metadata: ["connections": "\(left)"])
            await parts.states.forEach { $0.closeAll() }
        }
        parts.sampler.stop()
        parts.monitor.stop()
        await parts.states.forEach { $0.stop() }
        await parts.listeners.tunnels.close()
        await assembly.mesh?.close()
        await parts.ops.close()
        await parts.admin.close()
        await assembly.presence.leave()
        parts.background.cancel()
        assembly.shared.close()
        try? await parts.group.shutdownGracefully()
        try? await parts.opsGroup.shutdownGracefully()
        logger.notice("gateway stopped")
    }
}

/// The reason why the gateway did not start. The description is for the operator.
package struct GatewayStartError: Error, CustomStringConvertible {
    package var description: String

    init(_ description: String) {
        self.description = description
    }
}
