package import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// Limits of the ops listener.
package struct OpsServerConfiguration: Sendable {
    /// Connections at a time; the next ones are closed at once.
    package var maximumConnections = 64
    /// From the connection, or from the last response, to the end of the next request.
    package var requestTimeout = TimeAmount.seconds(10)
    /// From the answer until the client has taken it.
    package var responseTimeout = TimeAmount.seconds(10)

    package init() {}
}

/// What the ops server asks the process; every callback runs on its loop and must not block.
package struct OpsSources: Sendable {
    package var metrics: MetricsRegistry
    /// Whether the process turns over: `/healthz`. Touches no file and no peer.
    package var isHealthy: @Sendable () -> Bool
    /// `/readyz`.
    package var readiness: @Sendable () -> Readiness

    package init(
        metrics: MetricsRegistry,
        isHealthy: @escaping @Sendable () -> Bool = { true },
        readiness: @escaping @Sendable () -> Readiness
    ) {
        self.metrics = metrics
        self.isHealthy = isHealthy
        self.readiness = readiness
    }
}

/// The listener for operators: `GET` or `HEAD` of `/healthz`, `/readyz` and `/metrics` over plain HTTP/1.1, and nothing
/// else. It is for probes and scrapers inside; it never stands on a public address.
///
/// All its connections live on one loop. Given a loop of its own, a scrape delays no request.
package final class OpsServer: Sendable {
    package let localAddress: SocketAddress
    private let listener: any Channel
    private let connections: OpsConnections

    /// Binds and starts to serve.
    package static func start(
        host: String,
        port: Int,
        on loop: any EventLoop,
        sources: OpsSources,
        configuration: OpsServerConfiguration = .init()
    ) async throws -> OpsServer {
        let connections = OpsConnections(limit: configuration.maximumConnections)
        let listener = try await ServerBootstrap(group: loop)
            .serverChannelOption(.backlog, value: 64)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelInitializer { channel in
                guard connections.add(channel) else {
                    return channel.eventLoop.makeFailedFuture(ChannelError.ioOnClosedChannel)
                }
                return channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    try channel.pipeline.syncOperations.addHandler(
                        OpsHandler(sources: sources, configuration: configuration)
                    )
                }
            }
            .bind(host: host, port: port)
            .get()
        guard let address = listener.localAddress else { throw ChannelError.unknownLocalAddress }
        return OpsServer(listener: listener, address: address, connections: connections)
    }

    private init(listener: any Channel, address: SocketAddress, connections: OpsConnections) {
        self.listener = listener
        self.localAddress = address
        self.connections = connections
    }

    /// Stops listening and closes every connection.
    package func close() async {
        try? await self.listener.close().get()
        for channel in self.connections.all { channel.close(promise: nil) }
    }
}

/// The open connections of the ops server.
private final class OpsConnections: Sendable {
    private let limit: Int
    private let open = Mutex<[ObjectIdentifier: any Channel]>([:])

    init(limit: Int) {
        self.limit = limit
    }

    var all: [any Channel] { self.open.withLock { Array($0.values) } }

    /// `false` when there are too many; else the connection counts until it closes.
    func add(_ channel: any Channel) -> Bool {
        let id = ObjectIdentifier(channel)
        let isAdded = self.open.withLock {
            guard $0.count < self.limit else { return false }
            $0[id] = channel
            return true
        }
        if isAdded {
            channel.closeFuture.whenComplete { _ in
                self.open.withLock { _ = $0.removeValue(forKey: id) }
            }
        }
        return isAdded
    }
}
