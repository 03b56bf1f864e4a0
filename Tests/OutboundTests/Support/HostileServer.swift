import NIOCore
import NIOPosix
import NIOSSL
import Synchronization

/// A server on a loopback port whose behaviour is scripted by the test.
final class HostileServer: Sendable {
    typealias Script = @Sendable (Conversation) -> Void

    /// The record of all connections of the server.
    final class Log: Sendable {
        private let record = Mutex(Record())

        func withLock<Value: Sendable>(_ body: (inout Record) -> Value) -> Value { record.withLock { body(&$0) } }
    }

    struct Record {
        /// The requests, head and body as received.
        var requests: [String] = []
        var connections = 0
        var open = 0
        var mostOpen = 0
    }

    private let channel: any Channel
    private let log: Log
    let scheme: String
    let port: Int

    /// Starts the server.
    ///
    /// - Parameters:
    ///   - tls: The TLS context, or `nil` for plain HTTP.
    ///   - answer: Called for each request.
    ///   - greeting: Called for each connection.
    init(
        _ tls: NIOSSLContext? = nil,
        answer: @escaping Script = { $0.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") },
        greeting: Script? = nil
    ) async throws {
        let log = Log()
        self.log = log
        scheme = tls == nil ? "http" : "https"
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 1_024)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHandler(Floor(), name: Floor.name)
                    if let tls { try pipeline.addHandler(NIOSSLServerHandler(context: tls)) }
                    try pipeline.addHandler(RequestHandler(log, greeting, answer))
                }
            }
            .bind(host: "127.0.0.1", port: 0)
            .get()
        port = channel.localAddress!.port!
    }

    func url(_ path: String = "/") -> String { "\(scheme)://127.0.0.1:\(port)\(path)" }

    var requests: [String] { log.withLock { $0.requests } }
    var connections: Int { log.withLock { $0.connections } }
    var open: Int { log.withLock { $0.open } }
    var mostOpen: Int { log.withLock { $0.mostOpen } }

    func stop() async { try? await channel.close().get() }
}

/// A handler below TLS, which can close the connection without a close_notify alert.
final class Floor: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer
    static let name = "floor"
}

/// Splits the bytes of a connection into requests and runs the script.
final class RequestHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let log: HostileServer.Log
    private let greeting: HostileServer.Script?
    private let answer: HostileServer.Script
    private var received = ""

    init(_ log: HostileServer.Log, _ greeting: HostileServer.Script?, _ answer: @escaping HostileServer.Script) {
        self.log = log
        self.greeting = greeting
        self.answer = answer
    }

    func channelActive(context: ChannelHandlerContext) {
        log.withLock {
            $0.connections += 1
            $0.open += 1
            $0.mostOpen = max($0.mostOpen, $0.open)
        }
        greeting?(Conversation(context.channel, request: ""))
    }

    func channelInactive(context: ChannelHandlerContext) {
        log.withLock { $0.open -= 1 }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        received += String(decoding: unwrapInboundIn(data).readableBytesView, as: UTF8.self)
        while let request = next() {
            log.withLock { $0.requests.append(request) }
            answer(Conversation(context.channel, request: request))
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    private func next() -> String? {
        guard let end = received.firstRange(of: "\r\n\r\n") else { return nil }
        let head = received[..<end.upperBound]
        let field = head.lowercased().split(separator: "\r\n").first { $0.hasPrefix("content-length:") }
        let length = field.flatMap { Int($0.split(separator: ":")[1].trimmingPrefix(" ")) } ?? 0
        guard received.utf8.distance(from: end.upperBound, to: received.endIndex) >= length else { return nil }
        let last = received.utf8.index(end.upperBound, offsetBy: length)
        defer { received = String(received[last...]) }
        return String(received[..<last])
    }
}
