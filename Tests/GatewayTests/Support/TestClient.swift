import Gateway
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization
import TestSupport
import Testing

/// A client that writes exactly the given bytes and keeps those that it receives.
final class TestClient: Sendable {
    private struct State {
        var received: [UInt8] = []
        var isClosed = false
        var hasNotice = false
    }

    private let channel: any Channel
    private let state: Collected

    private final class Collected: Sendable {
        let state = Mutex(State())
    }

    private final class Collector: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        let state: Collected
        init(_ state: Collected) { self.state = state }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = unwrapInboundIn(data)
            state.state.withLock { $0.received.append(contentsOf: bytes.readableBytesView) }
        }

        func channelInactive(context: ChannelHandlerContext) {
            state.state.withLock { $0.isClosed = true }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            if case NIOSSLError.uncleanShutdown = error { return }
            context.close(promise: nil)
        }
    }

    private init(channel: any Channel, state: Collected) {
        self.channel = channel
        self.state = state
    }

    /// - Parameter serverName: The server name for TLS, or `nil` for plain TCP.
    static func connect(
        to address: SocketAddress,
        serverName: String?,
        rootPEM: [UInt8] = [],
        autoRead: Bool = true
    ) async throws -> TestClient {
        let state = Collected()
        var context: NIOSSLContext?
        if serverName != nil {
            var configuration = TLSConfiguration.makeClientConfiguration()
            configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(rootPEM))
            context = try NIOSSLContext(configuration: configuration)
        }
        let tls = context
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.autoRead, value: autoRead)
            .channelOption(.socketOption(.so_rcvbuf), value: autoRead ? 1 << 20 : 16 << 10)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls {
                        let handler = try NIOSSLClientHandler(context: tls, serverHostname: serverName)
                        try channel.pipeline.syncOperations.addHandler(handler)
                    }
                    try channel.pipeline.syncOperations.addHandler(Collector(state))
                }
            }
            .connect(to: address)
            .get()
        return TestClient(channel: channel, state: state)
    }

    /// Connects to the gateway's HTTPS port.
    static func https(_ gateway: TestGateway, host: String = "app.test") async throws -> TestClient {
        try await connect(to: gateway.process.httpsAddress, serverName: host, rootPEM: try gateway.rootPEM)
    }

    func send(_ text: String) async throws {
        try await channel.writeAndFlush(ByteBuffer(string: text)).get()
    }

    func send(_ bytes: ByteBuffer) {
        channel.writeAndFlush(bytes, promise: nil)
    }

    /// Writes one buffer after the other; returns when the kernel has accepted the last.
    func sendAll(_ pieces: [ByteBuffer]) -> Written {
        let written = Written()
        for piece in pieces.dropLast() { channel.write(piece, promise: nil) }
        if let last = pieces.last { channel.writeAndFlush(last).whenSuccess { written.done.withLock { $0 = true } } }
        return written
    }

    final class Written: Sendable {
        fileprivate let done = Mutex(false)
        var isDone: Bool { done.withLock { $0 } }
    }

    func close() async {
        try? await channel.close().get()
    }

    /// Closes the socket without a word of TLS, as the end of a process does.
    func leave() async {
        let channel = channel
        try? await channel.eventLoop.submit {
            try channel.pipeline.syncOperations.context(handlerType: NIOSSLClientHandler.self).close(promise: nil)
        }.get()
    }

    func closeOutput() async throws {
        try await channel.close(mode: .output).get()
    }

    var isClosed: Bool { state.state.withLock { $0.isClosed } }
    var received: [UInt8] { state.state.withLock { $0.received } }
    var text: String { String(decoding: received, as: UTF8.self) }

    /// Removes and returns the bytes received so far, as text.
    func drain() -> String {
        state.state.withLock { state in
            defer { state.received = [] }
            return String(decoding: state.received, as: UTF8.self)
        }
    }

    func waitFor(_ part: String) async throws {
        try await eventually("\"\(part)\" in \"\(text.suffix(300))\"") { text.contains(part) }
    }

    func waitForClose() async throws {
        try await eventually("the connection's end; got \(text.prefix(300))") { isClosed }
    }

    /// Sends a request and waits for a whole response with a Content-Length.
    func exchange(_ request: String) async throws -> TestResponse {
        _ = drain()
        try await send(request)
        try await eventually("a whole response; got \(text.prefix(400))") {
            TestResponse(text)?.isComplete == true || isClosed
        }
        return try #require(TestResponse(drain()))
    }
}

/// An HTTP/1 response in text.
struct TestResponse {
    var status: Int
    var fields: [(name: String, value: String)]
    var body: String

    init?(_ text: String) {
        guard let end = text.firstRange(of: "\r\n\r\n") else { return nil }
        var lines = text[..<end.lowerBound].split(separator: "\r\n", omittingEmptySubsequences: false)
        let first = lines.removeFirst().split(separator: " ")
        guard first.count >= 2, let status = Int(first[1]) else { return nil }
        self.status = status
        fields = lines.compactMap { line in
            guard let colon = line.firstIndex(of: ":") else { return nil }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            return (line[..<colon].lowercased(), String(value))
        }
        body = String(text[end.upperBound...])
    }

    subscript(name: String) -> String? { fields.first { $0.name == name }?.value }

    var isComplete: Bool {
        if status == 204 || status == 304 { return true }
        if let length = self["content-length"].flatMap(Int.init) { return body.utf8.count >= length }
        if self["transfer-encoding"] == "chunked" { return body.hasSuffix("0\r\n\r\n") }
        return false
    }
}
