import DTLS
import HopProtocol
package import Logging
import NIOCore
import NIOPosix
package import Observability
import Settings
import Synchronization
import Transport

/// An agent process: dials its gateways, serves what they send from local origins, and answers on its ops port.
///
/// ``run()`` returns after ``shutdown()``, when what was in flight is done or the grace is over.
package final class Agent: Sendable {
    private let shared: AgentShared
    private let resolve: AddressResolver.Resolve
    private let registry = OpenSessions()
    private let wakeUp: AsyncStream<Void>
    private let wake: AsyncStream<Void>.Continuation
    private let opsPort = Mutex<Int?>(nil)

    package init(
        configuration: AgentConfiguration,
        log: Logger,
        metrics: MetricsRegistry = MetricsRegistry(namespace: "hopagent"),
        ledgerCapacity: Int = RequestLedgerLimits.capacity,
        resolve: @escaping AddressResolver.Resolve = AddressResolver.resolve
    ) {
        self.resolve = resolve
        shared = AgentShared(
            configuration: configuration,
            run: .random(),
            metrics: AgentMetrics(registry: metrics),
            log: log,
            ledgerCapacity: ledgerCapacity
        )
        (wakeUp, wake) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Tunnels that take requests.
    package var readyTunnels: Int { shared.metrics.readyTunnels.value }
    package var requestsInFlight: Int { shared.requestsInFlight }
    /// The port of the ops listener once it is there.
    package var opsListenPort: Int? { opsPort.withLock { $0 } }

    /// Begins to stop: no new requests, those in flight may finish within the grace. From anywhere, any number of times.
    package func shutdown() {
        shared.isDraining = true
        wake.yield()
        wake.finish()
    }

    /// Throws ``AgentError`` when it cannot start.
    package func run() async throws {
        let configuration = shared.configuration
        let context = try makeContext()
        let count = max(1, min(configuration.gateways.count, System.coreCount))
        let group = MultiThreadedEventLoopGroup(numberOfThreads: count + 1)
        let loops = Array(group.makeIterator())
        let monitor = LoopMonitor(loops: loops, metrics: shared.metrics.registry)
        let ops: OpsServer?
        do {
            ops = try await startOps(on: loops[count], monitor)
        } catch {
            monitor.stop()
            try? await group.shutdownGracefully()
            throw error
        }
        shared.log.info(
            "agent started",
            metadata: [
                "name": "\(configuration.name)", "run": "\(shared.run)", "token": "\(configuration.token)",
                "gateways": "\(configuration.gateways.map(\.description).joined(separator: ","))",
            ]
        )
        let owners = await makeOwners(Array(loops[..<count]))
        await withTaskGroup(of: Void.self) { tasks in
            for (index, gateway) in configuration.gateways.enumerated() {
                let attachment = GatewayConnector(
                    gateway: gateway,
                    shared: shared,
                    owner: owners[index % count],
                    loop: loops[index % count],
                    context: context,
                    registry: registry,
                    counters: TransportCounters(),
                    resolve: resolve
                )
                tasks.addTask { await attachment.run() }
            }
            for await _ in wakeUp {}
            shared.isDraining = true
            await drain(owners: owners, loops: loops)
            tasks.cancelAll()
        }
        await ops?.close()
        monitor.stop()
        // Connections that are still closing refer to their owners.
        try? await group.shutdownGracefully()
        withExtendedLifetime(owners) {}
        shared.log.info("agent stopped")
    }

    private func makeContext() throws(AgentError) -> DTLSContext {
        let trust: DTLSTrust =
            switch shared.configuration.trust {
            case .system: .systemRoots
            case .caFile(let path): .caFile(path: path)
            case .pin(let digest): .pin(sha256: digest)
            }
        do throws(DTLSError) {
            return try .client(DTLSClientConfiguration(trust: trust, alpn: [TunnelProtocol.alpn]))
        } catch {
            throw AgentError("the gateway's trust cannot be set up: \(error)")
        }
    }

    private func makeOwners(_ loops: [any EventLoop]) async -> [NIOLoopBound<OriginLoop>] {
        let shared = self.shared
        var owners: [NIOLoopBound<OriginLoop>] = []
        for loop in loops {
            let owner = try? await loop.submit {
                NIOLoopBound(OriginLoop(loop: loop, shared: shared), eventLoop: loop)
            }.get()
            guard let owner else { preconditionFailure("a new loop runs what it is given") }
            owners.append(owner)
        }
        return owners
    }

    private func startOps(on loop: any EventLoop, _ monitor: LoopMonitor) async throws -> OpsServer? {
        guard let listen = shared.configuration.opsListen else { return nil }
        let shared = self.shared
        let sources = OpsSources(metrics: shared.metrics.registry, isHealthy: { monitor.allLoopsAreResponsive() }) {
            let tunnels = shared.metrics.readyTunnels.value
            return Readiness([
                .init("tunnels", isReady: tunnels > 0, detail: "\(tunnels) live"),
                .init("running", isReady: !shared.isDraining, detail: shared.isDraining ? "draining" : nil),
            ])
        }
        do {
            let server = try await OpsServer.start(host: listen.host, port: listen.port, on: loop, sources: sources)
            opsPort.withLock { $0 = server.localAddress.port }
            return server
        } catch {
            guard shared.configuration.opsListenIsExplicit else {
                shared.log.warning(
                    "no ops listener: its default address is taken",
                    metadata: [
                        "listen": "\(listen)", "reason": "\(error)",
                        "remedy": "Set ops_listen to another address or off.",
                    ]
                )
                return nil
            }
            throw AgentError("the ops listener cannot be bound to \(listen): \(error)")
        }
    }

    // MARK: The end

    private func drain(owners: [NIOLoopBound<OriginLoop>], loops: [any EventLoop]) async {
        let grace = shared.configuration.shutdownGrace
        shared.log.info("stopping", metadata: ["in_flight": "\(shared.requestsInFlight)"])
        registry.forEach { $0.leave(deadline: grace) }
        let deadline = NIODeadline.now() + grace
        // The gateway may have sent a request before it read our GOAWAY: it is answered REFUSED, which proves that it
        // did not start. The pause lets that happen before the tunnel goes.
        await pause(.milliseconds(50))
        while shared.requestsInFlight > 0, NIODeadline.now() < deadline { await pause(.milliseconds(20)) }
        if shared.requestsInFlight > 0 {
            shared.log.warning(
                "the grace is over, requests are cut off",
                metadata: ["in_flight": "\(shared.requestsInFlight)"]
            )
        }
        for (owner, loop) in zip(owners, loops) {
            loop.execute {
                owner.value.abortAll()
                owner.value.close()
            }
        }
        registry.forEach { $0.close() }
        let last = NIODeadline.now() + .seconds(2)
        while !registry.isEmpty, NIODeadline.now() < last { await pause(.milliseconds(10)) }
    }

    private func pause(_ time: TimeAmount) async {
        try? await Task.sleep(for: .nanoseconds(time.nanoseconds))
    }
}

/// Why an agent did not start.
package struct AgentError: Error, Equatable, CustomStringConvertible {
    package var message: String
    package init(_ message: String) { self.message = message }
    package var description: String { message }
}
