import HopProtocol
package import Logging
import NIOCore
import NIOPosix
package import Observability
import Settings
import Synchronization
import Threads
import Transport

/// An agent process: attaches to its gateways, forwards their requests to local origins, and serves its ops port.
///
/// ``run()`` returns after ``shutdown()``, when the requests in flight have ended or the grace has expired.
package final class Agent: Sendable {
    private let context: AgentContext
    private let dialerMetrics: DialerMetrics
    private let resolve: AddressResolver.Resolve
    private let openSessions = OpenSessions()
    /// Sent by ``shutdown()``.
    private let shutdownRequest = AsyncSignal()
    private let opsPort = Mutex<Int?>(nil)
    /// The signals of the connectors that run.
    private let accessChanges = Mutex<[HostPort: AsyncSignal]>([:])

    /// Creates an agent that does nothing until ``run()`` is called.
    ///
    /// - Parameters:
    ///   - ledgerCapacity: The number of non-idempotent request ids that the agent remembers.
    ///   - resolve: Resolves the names of gateways.
    package init(
        configuration: AgentConfiguration,
        log: Logger,
        metrics: MetricsRegistry = MetricsRegistry(namespace: "hopagent"),
        ledgerCapacity: Int = RequestLedgerLimits.capacity,
        resolve: @escaping AddressResolver.Resolve = AddressResolver.resolve
    ) {
        self.resolve = resolve
        dialerMetrics = DialerMetrics(registry: metrics)
        context = AgentContext(
            configuration: configuration,
            run: .random(),
            metrics: RequestMetrics(registry: metrics),
            log: log,
            ledgerCapacity: ledgerCapacity
        )
    }

    /// The number of tunnels that accept requests.
    package var readyTunnels: Int { dialerMetrics.readyTunnels.value }
    /// The number of requests in flight, over all tunnels.
    package var requestsInFlight: Int { context.requestsInFlight }
    /// The port of the ops listener, or `nil` while it is not bound.
    package var opsListenPort: Int? { opsPort.withLock { $0 } }

    /// Starts a graceful shutdown: new requests are refused, and those in flight may finish within the grace. May be
    /// called on any thread and repeatedly.
    package func shutdown() {
        context.isDraining = true
        shutdownRequest.send()
    }

    /// Runs the agent until ``shutdown()``. The owner supplies the task.
    ///
    /// - Throws: ``AgentError`` if the agent cannot start.
    package func run() async throws {
        let configuration = context.configuration
        let access = try GatewayAccess.polled(configuration, log: context.log)
        let count = max(1, min(configuration.gateways.count, System.coreCount))
        // Also those for the resolution of names and for the token's file. SwiftNIO would end the process.
        let threads = count + System.coreCount + 3
        guard ThreadLimit.allows(threads) else {
            throw AgentError("\(threads) threads are needed: \(ThreadLimit.message)")
        }
        if configuration.identityFile != nil, !access.start() { throw AgentError(ThreadLimit.message) }
        defer { access.stop() }
        let group = MultiThreadedEventLoopGroup(numberOfThreads: count + 1)
        let loops = Array(group.makeIterator())
        let monitor = LoopMonitor(loops: loops, metrics: context.metrics.registry)
        let ops: OpsServer?
        do {
            ops = try await startOps(on: loops[count], monitor)
        } catch {
            monitor.stop()
            try? await group.shutdownGracefully()
            throw error
        }
        context.log.info(
            "agent started",
            metadata: [
                "name": "\(configuration.name)", "run": "\(context.run)", "token": "\(configuration.token)",
                "gateways": "\(configuration.gateways.map(\.description).joined(separator: ","))",
            ]
        )
        let loopStates = await makeLoopStates(Array(loops[..<count]))
        await withDiscardingTaskGroup { tasks in
            var current = configuration
            var started = 0
            repeat {
                let newest = access.value.configuration
                if newest != current {
                    current = newest
                    for signal in accessChanges.withLock({ Array($0.values) }) { signal.send() }
                }
                for gateway in newest.gateways where accessChanges.withLock({ $0[gateway] == nil }) {
                    let accessChange = AsyncSignal()
                    accessChanges.withLock { $0[gateway] = accessChange }
                    let index = started % count
                    started += 1
                    let connector = GatewayConnector(
                        gateway: gateway,
                        context: context,
                        loopState: loopStates[index],
                        loop: loops[index],
                        access: access,
                        accessChange: accessChange,
                        openSessions: openSessions,
                        counters: TransportCounters(),
                        metrics: dialerMetrics,
                        resolve: resolve
                    )
                    tasks.addTask {
                        await connector.run()
                        self.accessChanges.withLock { $0[gateway] = nil }
                    }
                }
                await shutdownRequest.wait(atMost: GatewayAccess.readInterval)
            } while !context.isDraining && !Task.isCancelled
            context.isDraining = true
            await drain(loopStates: loopStates, loops: loops)
            tasks.cancelAll()
        }
        await ops?.close()
        monitor.stop()
        // Connections that are still closing refer to the pools of the loop states.
        try? await group.shutdownGracefully()
        withExtendedLifetime(loopStates) {}
        context.log.info("agent stopped")
    }

    /// Reads the file with CAs as a start does.
    package static func requireUsableTrust(_ configured: AgentTrust) throws(AgentError) {
        _ = try configured.makeContext()
    }

    private func makeLoopStates(_ loops: [any EventLoop]) async -> [NIOLoopBound<AgentLoopState>] {
        let context = self.context
        var loopStates: [NIOLoopBound<AgentLoopState>] = []
        for loop in loops {
            let loopState = try? await loop.submit {
                NIOLoopBound(AgentLoopState(loop: loop, context: context), eventLoop: loop)
            }.get()
            guard let loopState else { preconditionFailure("a new event loop runs the task that is submitted to it") }
            loopStates.append(loopState)
        }
        return loopStates
    }

    private func startOps(on loop: any EventLoop, _ monitor: LoopMonitor) async throws -> OpsServer? {
        guard let listen = context.configuration.opsListen else { return nil }
        let context = self.context
        let metrics = dialerMetrics
        let sources = OpsSources(metrics: context.metrics.registry, isHealthy: { monitor.allLoopsAreResponsive() }) {
            let tunnels = metrics.readyTunnels.value
            return Readiness([
                .init("tunnels", isReady: tunnels > 0, detail: "\(tunnels) live"),
                .init("running", isReady: !context.isDraining, detail: context.isDraining ? "draining" : nil),
            ])
        }
        do {
            let server = try await OpsServer.start(host: listen.host, port: listen.port, on: loop, sources: sources)
            opsPort.withLock { $0 = server.localAddress.port }
            return server
        } catch {
            guard context.configuration.opsListenIsExplicit else {
                context.log.warning(
                    "ops listener disabled, its default address is not available",
                    metadata: [
                        "listen": "\(listen)", "reason": "\(SocketFailure(error))",
                        "remedy": "Set ops_listen to another address or off.",
                    ]
                )
                return nil
            }
            throw AgentError(SocketFailure(error).text(listeningOn: "\(listen)", key: "ops_listen"))
        }
    }

    // MARK: Shutdown

    private func drain(loopStates: [NIOLoopBound<AgentLoopState>], loops: [any EventLoop]) async {
        let grace = context.configuration.shutdownGrace
        context.log.info("agent draining", metadata: ["in_flight": "\(context.requestsInFlight)"])
        openSessions.forEach { $0.drain(deadline: grace) }
        let deadline = NIODeadline.now() + grace
        // The gateway may have sent a request before it received GOAWAY. It is answered REFUSED, which proves that the
        // request did not start. The pause leaves time for that before the tunnel closes.
        await pause(.milliseconds(50))
        while context.requestsInFlight > 0, NIODeadline.now() < deadline { await pause(.milliseconds(20)) }
        if context.requestsInFlight > 0 {
            context.log.warning(
                "shutdown grace expired, requests aborted",
                metadata: ["in_flight": "\(context.requestsInFlight)"]
            )
        }
        for (loopState, loop) in zip(loopStates, loops) {
            loop.execute {
                loopState.value.abortAll()
                loopState.value.close()
            }
        }
        openSessions.forEach { $0.close() }
        let closeDeadline = NIODeadline.now() + .seconds(2)
        while !openSessions.isEmpty, NIODeadline.now() < closeDeadline { await pause(.milliseconds(10)) }
    }

    private func pause(_ time: TimeAmount) async {
        try? await Task.sleep(for: .nanoseconds(time.nanoseconds))
    }
}
