import NIOCore
import NIOPosix
import NIOSSL
import Observability
import Synchronization

/// The two public listeners. The raw value is the `listener` of `connections_open` and begins the setting's name.
enum ListenerKind: String, Sendable {
    case http
    case https
}

/// One public TCP listener. It accepts on one loop and spreads the connections over all of them.
final class EdgeListener: Sendable {
    let kind: ListenerKind
    let localAddress: SocketAddress
    private let channel: any Channel

    private init(kind: ListenerKind, channel: any Channel, localAddress: SocketAddress) {
        self.kind = kind
        self.channel = channel
        self.localAddress = localAddress
    }

    /// - Parameters:
    ///   - states: The connections of each loop of `group`.
    ///   - identities: The certificates, or `nil` for plain HTTP.
    static func bind(
        _ kind: ListenerKind,
        host: String,
        port: Int,
        group: MultiThreadedEventLoopGroup,
        states: EdgeLoopStates,
        identities: TLSIdentities?,
        edge: EdgeContext
    ) async throws -> EdgeListener {
        // No SO_REUSEPORT: a second process on this port fails here, at start.
        let channel = try await ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1_024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(
                .writeBufferWaterMark,
                value: .init(low: EdgeLimits.socketLowMark, high: EdgeLimits.socketHighMark)
            )
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try prepare(channel, kind: kind, states: states, identities: identities, edge: edge)
                }
            }
            .bind(host: host, port: port)
            .get()
        guard let address = channel.localAddress else { throw ChannelError.unknownLocalAddress }
        return EdgeListener(kind: kind, channel: channel, localAddress: address)
    }

    private static func prepare(
        _ channel: any Channel,
        kind: ListenerKind,
        states: EdgeLoopStates,
        identities: TLSIdentities?,
        edge: EdgeContext
    ) throws {
        let proxy = edge.proxy
        guard edge.connections.load(ordering: .relaxed) < proxy.limits.connections else {
            proxy.metrics.connectionsRejected[.limit].increment()
            throw ChannelError.ioOnClosedChannel
        }
        let gauge = kind == .https ? proxy.metrics.httpsConnectionsOpen : proxy.metrics.httpConnectionsOpen
        edge.connections.wrappingAdd(1, ordering: .relaxed)
        gauge.increment()
        channel.closeFuture.whenComplete { _ in
            edge.connections.wrappingSubtract(1, ordering: .relaxed)
            gauge.decrement()
        }
        let now = NIODeadline.now()
        let connection = HTTP1Connection(
            edge: edge,
            loopState: states[channel.eventLoop],
            role: kind == .https ? .proxy : .redirect,
            isTLS: identities != nil,
            now: now
        )
        let pipeline = channel.pipeline.syncOperations
        if let identities {
            let tls = NIOSSLServerHandler(context: identities.tls)
            if edge.alpnChallenges.isPending(now) {
                try pipeline.addHandler(ClientHelloHandler(challenges: edge.alpnChallenges, ordinary: tls))
            }
            try pipeline.addHandler(tls)
        }
        try pipeline.addHandler(connection.decoder)
        try pipeline.addHandler(connection)
    }

    /// Stops accepting. Accepted connections stay open.
    func close() async {
        try? await channel.close().get()
    }
}
