import NIOCore
import NIOPosix
import NIOSSL
import Observability
import Synchronization

/// One public TCP listener. It accepts on one loop and spreads the connections over all of them.
final class EdgeListener: Sendable {
    let kind: GatewayMetrics.Listener
    let localAddress: SocketAddress
    private let channel: any Channel

    private init(kind: GatewayMetrics.Listener, channel: any Channel, localAddress: SocketAddress) {
        self.kind = kind
        self.channel = channel
        self.localAddress = localAddress
    }

    /// - Parameters:
    ///   - homes: one for each loop of `group`.
    ///   - identities: nil for plain HTTP.
    static func bind(
        _ kind: GatewayMetrics.Listener,
        host: String,
        port: Int,
        group: MultiThreadedEventLoopGroup,
        homes: EdgeLoopStates,
        identities: TLSIdentities?,
        services: ProxyContext
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
                    try prepare(channel, kind: kind, homes: homes, identities: identities, services: services)
                }
            }
            .bind(host: host, port: port)
            .get()
        guard let address = channel.localAddress else { throw ChannelError.unknownLocalAddress }
        return EdgeListener(kind: kind, channel: channel, localAddress: address)
    }

    private static func prepare(
        _ channel: any Channel,
        kind: GatewayMetrics.Listener,
        homes: EdgeLoopStates,
        identities: TLSIdentities?,
        services: ProxyContext
    ) throws {
        guard let gauge = services.metrics.connectionsOpen[kind] else {
            preconditionFailure("every listener has a gauge")
        }
        guard services.connections.load(ordering: .relaxed) < services.limits.connections else {
            services.metrics.connectionsRejected[.limit].increment()
            throw ChannelError.ioOnClosedChannel
        }
        services.connections.wrappingAdd(1, ordering: .relaxed)
        gauge.increment()
        channel.closeFuture.whenComplete { _ in
            services.connections.wrappingSubtract(1, ordering: .relaxed)
            gauge.decrement()
        }
        let now = NIODeadline.now()
        let connection = HTTP1Connection(
            services: services,
            home: homes[channel.eventLoop],
            role: kind == .https ? .proxy : .redirect,
            isTLS: identities != nil,
            now: now
        )
        let pipeline = channel.pipeline.syncOperations
        if let identities {
            let tls = NIOSSLServerHandler(context: identities.tls)
            if services.challenges.isPending(now) {
                try pipeline.addHandler(ClientHelloHandler(challenges: services.challenges, ordinary: tls))
            }
            try pipeline.addHandler(tls)
        }
        try pipeline.addHandler(connection.decoder)
        try pipeline.addHandler(connection)
    }

    /// Accepts no more; what was accepted stays.
    func close() async {
        try? await channel.close().get()
    }
}

/// The edge's state of every loop.
final class EdgeLoopStates: Sendable {
    private let homes: [ObjectIdentifier: EdgeLoopState]

    init(_ loops: [any EventLoop]) {
        homes = Dictionary(uniqueKeysWithValues: loops.map { (ObjectIdentifier($0), EdgeLoopState(loop: $0)) })
    }

    subscript(loop: any EventLoop) -> EdgeLoopState {
        guard let home = homes[ObjectIdentifier(loop)] else {
            preconditionFailure("a connection is on one of our loops")
        }
        return home
    }

    /// Runs `body` for each loop, on it.
    func forEach(_ body: @escaping @Sendable (EdgeLoopState) -> Void) async {
        for home in homes.values {
            try? await home.loop.submit { body(home) }.get()
        }
    }
}
