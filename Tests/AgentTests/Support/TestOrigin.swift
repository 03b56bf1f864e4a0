import Glibc
import NIOCore
import NIOPosix
import Synchronization
import TestSupport

/// The parts of one request that an origin has read.
struct OriginRequestLog: Sendable {
    /// The request line and the fields, with the empty line.
    var head: String
    /// The first bytes of the body, with the framing of its chunks.
    var raw = ""
    var rawBytes = 0
    var isComplete = false

    var requestLine: Substring { head.split(separator: "\r\n")[0] }

    func field(_ name: String) -> String? {
        for line in head.split(separator: "\r\n").dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts[0].lowercased() == name.lowercased() { return parts[1].trimmingSpaces }
        }
        return nil
    }

    var fieldNames: [String] { head.split(separator: "\r\n").dropFirst().map { String($0.prefix { $0 != ":" }) } }
}

extension Substring {
    var trimmingSpaces: String {
        String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
}

struct OriginLog: Sendable {
    var connections = 0
    var open = 0
    var requests: [OriginRequestLog] = []
    /// The bytes on a connection after its script switched to raw.
    var raw = ""
    /// The number of times that the agent half-closed or closed a connection.
    var ends = 0
}

/// A scripted HTTP/1.1 server on 127.0.0.1, whose script answers with arbitrary bytes.
final class TestOrigin: Sendable {
    /// Called on the connection's event loop.
    typealias Script = @Sendable (OriginPeer, OriginRequestLog) -> Void

    let log = Observed(OriginLog())
    let port: Int
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let channel: any Channel
    fileprivate let peers: Observed<[any Channel]>

    init(port: Int = 0, onHead: @escaping Script = { _, _ in }, _ onComplete: @escaping Script) async throws {
        let (log, peers) = (self.log, Observed<[any Channel]>([]))
        self.peers = peers
        channel = try await ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelInitializer { channel in
                log.update {
                    $0.connections += 1
                    $0.open += 1
                }
                peers.update { $0.append(channel) }
                channel.closeFuture.whenComplete { _ in log.update { $0.open -= 1 } }
                return channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        OriginPeer(log: log, onHead: onHead, onComplete: onComplete)
                    )
                }
            }
            .bind(host: "127.0.0.1", port: port)
            .get()
        self.port = channel.localAddress!.port!
    }

    /// Closes every connection that is open now.
    func closeConnections() async {
        for peer in peers.value { try? await peer.close() }
    }

    /// Closes the listener and all connections. May be called once.
    func disappear() async {
        try? await channel.close()
        await closeConnections()
    }

    func stop() async {
        if channel.isActive { try? await channel.close() }
        await closeConnections()
        try? await group.shutdownGracefully()
    }

    /// Creates an origin that answers every request with 200 and a short body.
    static func simple(_ body: String = "hello") async throws -> TestOrigin {
        try await TestOrigin { peer, _ in
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)")
        }
    }
}

/// One connection of the origin.
final class OriginPeer: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let log: Observed<OriginLog>
    private let onHead: TestOrigin.Script
    private let onComplete: TestOrigin.Script
    private var context: ChannelHandlerContext!
    private var input = ByteBuffer()
    private var current: (index: Int, length: Int?, log: OriginRequestLog)?
    private(set) var isRaw = false
    private var isPaused = false

    init(log: Observed<OriginLog>, onHead: @escaping TestOrigin.Script, onComplete: @escaping TestOrigin.Script) {
        self.log = log
        self.onHead = onHead
        self.onComplete = onComplete
    }

    var eventLoop: any EventLoop { context.eventLoop }

    // MARK: Calls of scripts

    func write(_ text: String) { write(ByteBuffer(string: text)) }
    func write(_ bytes: ByteBuffer) { context.writeAndFlush(wrapOutboundOut(bytes), promise: nil) }
    func close() { context.close(promise: nil) }
    func closeOutput() { context.close(mode: .output, promise: nil) }
    func switchToRaw() { isRaw = true }

    /// Stops reading from the connection.
    func stopReading() {
        context.channel.setOption(.autoRead, value: false).assumeIsolated().whenFailure { _ in }
    }

    /// Writes `count` bytes of ``pattern(at:count:)`` as the socket accepts them, then calls `then`.
    func pour(_ count: Int, from start: Int = 0, then: @escaping (OriginPeer) -> Void) {
        let piece = min(64 << 10, count)
        guard piece > 0 else { return then(self) }
        context.writeAndFlush(wrapOutboundOut(pattern(at: start, count: piece))).assumeIsolated().whenSuccess {
            self.pour(count - piece, from: start + piece, then: then)
        }
    }

    // MARK: ChannelInboundHandler

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        if isRaw {
            let text = String(buffer: bytes)
            log.update { $0.raw += text }
            return
        }
        input.writeBuffer(&bytes)
        parse()
    }

    private func parse() {
        if current == nil {
            let view = input.readableBytesView
            guard let end = view.firstRange(of: Array("\r\n\r\n".utf8))?.upperBound else { return }
            let head = input.readString(length: end - view.startIndex)!
            var request = OriginRequestLog(head: head)
            let length = request.field("transfer-encoding") != nil ? nil : Int(request.field("content-length") ?? "0")
            request.isComplete = length == 0
            let index = log.value.requests.count
            log.update { $0.requests.append(request) }
            current = (index, length, request)
            onHead(self, request)
        }
        guard let (index, length, before) = current, !isRaw else { return }
        var request = before
        let bytes = input.readableBytes
        if bytes > 0 {
            request.rawBytes += bytes
            if request.raw.utf8.count < 4096 { request.raw += String(buffer: input) }
            // The tail of a chunked body: an empty chunk and the trailers.
            let tail = String(decoding: input.readableBytesView.suffix(200), as: UTF8.self)
            input.clear()
            request.isComplete =
                length.map { request.rawBytes >= $0 } ?? (tail.hasSuffix("\r\n\r\n") && tail.contains("0\r\n"))
            log.update { [request] in $0.requests[index] = request }
        }
        guard request.isComplete else {
            current = (index, length, request)
            return
        }
        current = nil
        onComplete(self, request)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case ChannelEvent.inputClosed = event {
            log.update { $0.ends += 1 }
            if !isRaw { context.close(promise: nil) }
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

/// Bytes that depend on their position.
func pattern(at position: Int, count: Int) -> ByteBuffer {
    var buffer = ByteBuffer()
    buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { bytes in
        for index in 0..<count {
            bytes[index] = UInt8(truncatingIfNeeded: (UInt64(position + index) &* 0x9E37_79B9) >> 13)
        }
        return count
    }
    return buffer
}

/// An FNV-1a checksum.
struct Checksum: Equatable, Sendable {
    private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    mutating func add(_ bytes: ByteBuffer) {
        var value = self.value
        bytes.withUnsafeReadableBytes { for byte in $0 { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 } }
        self.value = value
    }

    static func ofPattern(_ count: Int) -> Checksum {
        var sum = Checksum()
        var position = 0
        while position < count {
            let piece = min(64 << 10, count - position)
            sum.add(pattern(at: position, count: piece))
            position += piece
        }
        return sum
    }
}

extension TestOrigin {
    /// Closes every connection with a reset.
    func abortConnections() async {
        for peer in peers.value {
            try? await peer.eventLoop.submit {
                guard let socket = peer as? any SocketOptionProvider else { return }
                socket.setSoLinger(linger(l_onoff: 1, l_linger: 0)).whenComplete { _ in peer.close(promise: nil) }
            }.get()
        }
    }
}
