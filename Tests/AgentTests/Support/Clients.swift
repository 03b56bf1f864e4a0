import NIOCore
import NIOPosix
import TestSupport

/// Sends one GET over a new connection, and returns the whole response as text.
func httpGet(_ port: Int, _ path: String) async throws -> String {
    let text = Observed("")
    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(Collector(text: text))
            }
        }
        .connect(host: "127.0.0.1", port: port)
        .get()
    try await channel.writeAndFlush(
        ByteBuffer(string: "GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    )
    try await channel.closeFuture.get()
    return text.value
}

private final class Collector: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let text: Observed<String>

    init(text: Observed<String>) { self.text = text }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let piece = String(buffer: unwrapInboundIn(data))
        text.update { $0 += piece }
    }
}

/// A sendable reference to a connection of an origin.
struct OriginPeerReference: Sendable {
    private let peer: NIOLoopBound<OriginPeer>
    private let loop: any EventLoop

    /// Creates a reference. Must be called on the connection's event loop.
    init(_ peer: OriginPeer) {
        loop = peer.eventLoop
        self.peer = NIOLoopBound(peer, eventLoop: peer.eventLoop)
    }

    func write(_ text: String) {
        loop.execute { peer.value.write(text) }
    }
}
