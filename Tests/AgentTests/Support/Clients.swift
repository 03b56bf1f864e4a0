import NIOCore
import NIOPosix

/// One GET over a connection of its own; the whole answer as text.
func httpGet(_ port: Int, _ path: String) async throws -> String {
    let text = Signal("")
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
    private let text: Signal<String>

    init(text: Signal<String>) { self.text = text }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let piece = String(buffer: unwrapInboundIn(data))
        text.update { $0 += piece }
    }
}

/// An origin's connection, to be used from a test.
struct OriginPeerBox: Sendable {
    private let peer: NIOLoopBound<OriginPeer>
    private let loop: any EventLoop

    /// On the connection's loop.
    init(_ peer: OriginPeer) {
        loop = peer.eventLoop
        self.peer = NIOLoopBound(peer, eventLoop: peer.eventLoop)
    }

    func write(_ text: String) {
        loop.execute { peer.value.write(text) }
    }
}
