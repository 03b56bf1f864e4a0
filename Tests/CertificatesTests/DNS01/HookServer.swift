import NIOCore
import NIOPosix
import Synchronization

/// A server on a loopback port that answers every request with the same bytes; none: it never answers.
final class HookServer: Sendable {
    struct Request: Sendable {
        let line: String
        /// The fields by name in lower case.
        let fields: [String: String]
        let body: String

        /// Creates a request from its bytes; `nil` if it is not complete yet.
        init?(_ bytes: [UInt8]) {
            let text = String(decoding: bytes, as: UTF8.self)
            guard let end = text.firstRange(of: "\r\n\r\n") else { return nil }
            let lines = text[..<end.lowerBound].split(separator: "\r\n")
            var fields: [String: String] = [:]
            for line in lines.dropFirst() {
                let parts = line.split(separator: ":", maxSplits: 1)
                fields[parts[0].lowercased()] = String(parts[1].drop { $0 == " " })
            }
            let body = String(text[end.upperBound...])
            guard body.utf8.count >= fields["content-length"].flatMap({ Int($0) }) ?? 0 else { return nil }
            line = String(lines[0])
            self.fields = fields
            self.body = body
        }
    }

    private final class Log: Sendable {
        let requests = Mutex<[Request]>([])
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let log: Log
        private let answer: String
        private var bytes: [UInt8] = []

        init(_ log: Log, _ answer: String) {
            self.log = log
            self.answer = answer
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            bytes += unwrapInboundIn(data).readableBytesView
            guard let request = Request(bytes) else { return }
            bytes = []
            log.requests.withLock { $0.append(request) }
            guard !answer.isEmpty else { return }
            context.writeAndFlush(wrapOutboundOut(context.channel.allocator.buffer(string: answer)), promise: nil)
        }
    }

    private let channel: any Channel
    private let log: Log
    let port: Int

    init(_ answer: String) async throws {
        let log = Log()
        self.log = log
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Handler(log, answer))
                }
            }
            .bind(host: "127.0.0.1", port: 0)
            .get()
        port = channel.localAddress!.port!
    }

    var requests: [Request] { log.requests.withLock { $0 } }

    func stop() async { try? await channel.close().get() }
}
