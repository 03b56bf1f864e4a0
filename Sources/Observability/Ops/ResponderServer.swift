package import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// A small HTTP/1.1 server for operators: it handles whole requests and whole responses, with limits on everything. It
/// is meant for internal listeners, never for a public address.
///
/// All its connections run on one event loop, where a ``ResponderHandler`` per connection collects the request, calls
/// `respond` synchronously and writes the answer. On a loop of its own it does not delay other traffic. Connections
/// beyond ``ResponderLimits/maximumConnections`` are closed at once. ``OpsServer`` and the gateway's admin port are
/// built on it; the owner calls ``close()``.
package final class ResponderServer: Sendable {
    package let localAddress: SocketAddress
    private let listener: any Channel
    private let connections: ResponderConnections

    /// Binds the listener and starts serving.
    ///
    /// - Parameter respond: Returns the answer to a request. Runs on the loop and must not block.
    /// - Throws: The error of the bind.
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
        try? await listener.close().get()
        for channel in connections.all { channel.close(promise: nil) }
    }
}

/// The open connections of a responder server.
private final class ResponderConnections: Sendable {
    private let limit: Int
    private let open = Mutex<[ObjectIdentifier: any Channel]>([:])

    init(limit: Int) {
        self.limit = limit
    }

    var all: [any Channel] { open.withLock { Array($0.values) } }

    /// Adds a connection until it closes.
    ///
    /// - Returns: `false` if the limit has been reached.
    func add(_ channel: any Channel) -> Bool {
        let id = ObjectIdentifier(channel)
        let isAdded = open.withLock {
            guard $0.count < limit else { return false }
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
