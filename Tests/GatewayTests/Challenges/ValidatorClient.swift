import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS
import Synchronization
import Testing

/// A TLS client that offers given protocols, accepts any certificate, and can split its hello.
struct ValidatorClient {
    struct Outcome: Equatable, Sendable {
        var isComplete = false
        var negotiated: String?
        /// The received application data.
        var received: [UInt8] = []
        var isClosed = false
        var hasFailed = false
    }

    /// The way in which the first flight is split.
    enum Cut: Sendable, CustomTestStringConvertible {
        case none
        /// Writes of this number of bytes, one in each turn of the event loop.
        case segments(Int)
        /// Records of this number of bytes.
        case records(Int)
        /// Records of one size in writes of another size.
        case both(records: Int, segments: Int)

        var testDescription: String { "\(self)" }

        fileprivate var recordSize: Int? {
            switch self {
            case .none, .segments: nil
            case .records(let size), .both(let size, _): size
            }
        }

        fileprivate var segmentSize: Int? {
            switch self {
            case .none, .records: nil
            case .segments(let size), .both(_, let size): size
            }
        }
    }

    /// Connects and waits for the end of the connection.
    static func validate(
        _ address: SocketAddress,
        serverName: String,
        protocols: [String] = ["acme-tls/1"],
        cut: Cut = .none
    ) async throws -> Outcome {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.applicationProtocols = protocols
        configuration.certificateVerification = .none
        let tls = try NIOSSLContext(configuration: configuration)
        let collected = Collected()
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHandler(Cutter(cut))
                    try pipeline.addHandler(NIOSSLClientHandler(context: tls, serverHostname: serverName))
                    try pipeline.addHandler(Collector(collected))
                }
            }
            .connect(to: address)
            .get()
        let deadline = channel.eventLoop.scheduleTask(in: .seconds(20)) { channel.close(promise: nil) }
        try? await channel.closeFuture.get()
        deadline.cancel()
        return collected.outcome.withLock { $0 }
    }

    private final class Collected: Sendable {
        let outcome = Mutex(Outcome())
    }

    private final class Collector: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let collected: Collected

        init(_ collected: Collected) { self.collected = collected }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            guard case .handshakeCompleted(let negotiated)? = event as? TLSUserEvent else { return }
            collected.outcome.withLock {
                $0.isComplete = true
                $0.negotiated = negotiated
            }
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = unwrapInboundIn(data)
            collected.outcome.withLock { $0.received += bytes.readableBytesView }
        }

        func channelInactive(context: ChannelHandlerContext) { collected.outcome.withLock { $0.isClosed = true } }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            collected.outcome.withLock { $0.hasFailed = true }
            context.close(promise: nil)
        }
    }

    /// Splits the first outgoing record.
    private final class Cutter: ChannelOutboundHandler {
        typealias OutboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer
        private let cut: Cut
        private var isDone = false

        init(_ cut: Cut) { self.cut = cut }

        func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
            var bytes = unwrapOutboundIn(data)
            guard !isDone, bytes.readableBytes > 5 else {
                context.write(wrapOutboundOut(bytes), promise: promise)
                return
            }
            isDone = true
            if let size = cut.recordSize {
                bytes = ByteBuffer(bytes: TestHello.records(Array(bytes.readableBytesView.dropFirst(5)), of: size))
            }
            guard let size = cut.segmentSize else {
                context.write(wrapOutboundOut(bytes), promise: promise)
                return
            }
            send(bytes, of: size, context, promise)
        }

        private func send(
            _ bytes: ByteBuffer,
            of size: Int,
            _ context: ChannelHandlerContext,
            _ promise: EventLoopPromise<Void>?
        ) {
            var rest = bytes
            guard let first = rest.readSlice(length: min(size, rest.readableBytes)), rest.readableBytes > 0 else {
                context.writeAndFlush(wrapOutboundOut(bytes), promise: promise)
                return
            }
            context.writeAndFlush(wrapOutboundOut(first), promise: nil)
            context.eventLoop.assumeIsolated().scheduleTask(in: .microseconds(200)) {
                self.send(rest, of: size, context, promise)
            }
        }
    }
}
