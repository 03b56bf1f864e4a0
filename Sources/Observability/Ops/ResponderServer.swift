package import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// A small HTTP/1.1 server for operators: whole requests in, whole answers out, everything bounded. It is for listeners
/// inside, never for a public address.
///
/// All its connections live on one loop. Given a loop of its own, a scrape delays no request.
package final class ResponderServer: Sendable {
    package let localAddress: SocketAddress
    private let listener: any Channel
    private let connections: ResponderConnections

    /// Binds and starts to serve.
    ///
    /// - Parameter respond: runs on the loop and must not block.
    package static func start(
        host: String,
        port: Int,
        on loop: any EventLoop,
        limits: ResponderLimits = ResponderLimits(),
        respond: @escaping @Sendable (ResponderRequest) -> ResponderAnswer
    ) async throws -> ResponderServer {
        let connections = ResponderConnections(limit: limits.maximumConnections)
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
                    try channel.pipeline.syncOperations.addHandler(ResponderHandler(limits: limits, respond: respond))
                }
            }
            .bind(host: host, port: port)
            .get()
        guard let address = listener.localAddress else { throw ChannelError.unknownLocalAddress }
        return ResponderServer(listener: listener, address: address, connections: connections)
    }

    private init(listener: any Channel, address: SocketAddress, connections: ResponderConnections) {
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

/// The open connections of a responder server.
private final class ResponderConnections: Sendable {
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
