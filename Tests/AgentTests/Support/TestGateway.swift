import DTLS
import HopProtocol
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing
import Transport
import Tunnel

/// The gateway's end of tunnels as an agent sees it: receives HELLO, answers it, and opens streams.
final class TestGateway: Sendable {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let loop: any EventLoop
    let listener: TunnelListener
    let hellos = Observed<[Hello]>([])
    /// The sessions that are attached and not closed.
    let sessions = Observed<[TunnelSession]>([])
    let goaways = Observed<[Goaway]>([])

    var port: Int { listener.localAddress.port! }

    init(port: Int = 0, answer: @escaping @Sendable (Hello) -> ControlMessage = TestGateway.welcome) async throws {
        loop = group.next()
        let context = try DTLSContext.server(
            DTLSServerConfiguration(
                certificateChainPEM: TestCertificate.localhost.chainBytes,
                privateKeyPEM: TestCertificate.localhost.keyBytes,
                alpn: [TunnelProtocol.alpn]
            )
        )
        let (hellos, sessions, goaways) = (hellos, sessions, goaways)
        listener = try await TunnelListener.bind(
            host: "127.0.0.1",
            port: port,
            loops: [loop],
            configuration: TunnelListenerConfiguration(),
            context: { context },
            accept: { _ in TestGatewaySession(hellos: hellos, sessions: sessions, goaways: goaways, answer: answer) }
        )
    }

    static func welcome(_ hello: Hello) -> ControlMessage {
        .welcome(Welcome(incarnation: "TEST", keepAliveMilliseconds: 1_000))
    }

    /// Waits for a session, and returns the newest one.
    func session() async throws -> TunnelSession {
        try #require(try await sessions.wait("an attached agent") { !$0.isEmpty }.last)
    }

    /// Sends a request: the head, the frames of `body` and, with `finish`, FIN.
    func call(
        _ head: RequestHead,
        on session: TunnelSession? = nil,
        body: ByteBuffer? = nil,
        trailers: FieldSection? = nil,
        finish: Bool = true,
        holdsCredit: Bool = false
    ) async throws -> ClientCall {
        let session = if let session { session } else { try await self.session() }
        var frames = ByteBuffer()
        try MessageEncoder.writeRequestHead(head, into: &frames)
        if let body { MessageEncoder.writeData(body, into: &frames) }
        if let trailers { try MessageEncoder.writeTrailers(trailers, into: &frames) }
        let log = Observed(CallLog())
        let bytes = frames
        let stream = try await session.loop.submit {
            let handler = ClientStream(log: log, method: head.method, holdsCredit: holdsCredit)
            let stream = session.openStream(handler: handler, on: session.loop)
            handler.stream = stream
            stream.write(bytes)
            if finish { stream.finish() }
            return stream
        }.get()
        return ClientCall(stream: stream, log: log)
    }

    func send(_ message: ControlMessage) async throws {
        let session = try await session()
        let bytes = try ControlCodec.encode(message)
        try await session.loop.submit { session.control.write(bytes) }.get()
    }

    func stop() async {
        await listener.close()
        try? await group.shutdownGracefully()
    }
}

/// The gateway's side of one tunnel.
private final class TestGatewaySession: SessionHandler, StreamHandler {
    private let hellos: Observed<[Hello]>
    private let sessions: Observed<[TunnelSession]>
    private let goaways: Observed<[Goaway]>
    private let answer: @Sendable (Hello) -> ControlMessage
    private var codec = ControlCodec()
    private var session: TunnelSession?

    init(
        hellos: Observed<[Hello]>,
        sessions: Observed<[TunnelSession]>,
        goaways: Observed<[Goaway]>,
        answer: @escaping @Sendable (Hello) -> ControlMessage
    ) {
        self.hellos = hellos
        self.sessions = sessions
        self.goaways = goaways
        self.answer = answer
    }

    func sessionEstablished(_ session: TunnelSession) {
        self.session = session
        session.control.handler = self
    }

    func session(_ session: TunnelSession, opened stream: TunnelStream) {
        Issue.record("the agent opened a stream")
    }

    func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason) {
        self.session = nil
        sessions.update { $0.removeAll { $0 === session } }
    }

    func streamRead(_ bytes: ByteBuffer) {
        guard let session else { return }
        session.control.consumed(bytes.readableBytes)
        codec.feed(bytes)
        while let message = try? codec.next() {
            switch message {
            case .hello(let hello):
                hellos.update { $0.append(hello) }
                let reply = answer(hello)
                if let bytes = try? ControlCodec.encode(reply) { session.control.write(bytes) }
                if case .welcome = reply {
                    session.authenticated()
                    sessions.update { $0.append(session) }
                } else if case .error(let error) = reply {
                    session.close(error.code.wireCode, reason: error.message)
                }
            case .goaway(let goaway): goaways.update { $0.append(goaway) }
            default: Issue.record("an agent sent \(message)")
            }
        }
    }

    func streamFinished() {}
    func streamFailed(_ failure: StreamFailure) {}
    func streamStopped(code: ApplicationErrorCode) {}
    func streamWritable() {}
}

/// The events on the stream of a request.
struct CallLog: Sendable {
    var isAccepted = false
    var interim: [ResponseHead] = []
    var head: ResponseHead?
    var body = ""
    var bytes = 0
    var checksum = Checksum()
    var trailers: FieldSection?
    var isComplete = false
    var failure: StreamFailure?
    var stopped: HopCode?
    var problem: String?

    var isOver: Bool { isComplete || failure != nil || problem != nil }

    /// The code of the agent's reset, or `nil` if it has not reset the stream.
    var code: HopCode? {
        if case .reset(let code) = failure?.reason { HopCode(code) } else { nil }
    }
}

struct ClientCall: Sendable {
    let stream: TunnelStream
    let log: Observed<CallLog>

    func over(fileID: String = #fileID, line: Int = #line) async throws -> CallLog {
        try await log.wait("the end of the response", fileID: fileID, line: line) { $0.isOver }
    }

    /// Sends DATA and, with `finish`, FIN.
    func send(_ text: String, finish: Bool = false) async throws {
        try await send(ByteBuffer(string: text), finish: finish)
    }

    func send(_ bytes: ByteBuffer, finish: Bool = false) async throws {
        let stream = stream
        try await stream.userLoop.submit {
            var frames = ByteBuffer()
            if bytes.readableBytes > 0 { MessageEncoder.writeData(bytes, into: &frames) }
            stream.write(frames)
            if finish { stream.finish() }
        }.get()
    }

    func finish() async throws { try await send(ByteBuffer(), finish: true) }

    /// Cancels the request as a gateway does whose client has disconnected.
    func cancel() async throws {
        let stream = stream
        try await stream.userLoop.submit {
            stream.reset(.cancelled)
            stream.stopSending(.cancelled)
        }.get()
    }

    /// Waits until the stream is not writable.
    func waitUntilBlocked() async throws {
        let stream = stream
        let isBlocked = Observed(false)
        stream.userLoop.scheduleRepeatedTask(initialDelay: .zero, delay: .milliseconds(5)) { task in
            guard !stream.isWritable else { return }
            task.cancel()
            isBlocked.update { $0 = true }
        }
        try await isBlocked.wait("no more can be written") { $0 }
    }

    /// Sends `count` bytes of the pattern while the stream is writable, then FIN.
    func pour(_ count: Int) async throws {
        let stream = stream
        try await stream.userLoop.submit {
            (stream.handler as? ClientStream)?.pour(count)
        }.get()
    }
}

private final class ClientStream: StreamHandler {
    let log: Observed<CallLog>
    var stream: TunnelStream?
    private var decoder: ResponseDecoder
    private let holdsCredit: Bool
    private var position = 0
    private var total = 0

    init(log: Observed<CallLog>, method: String, holdsCredit: Bool) {
        self.log = log
        self.holdsCredit = holdsCredit
        decoder = ResponseDecoder(method: method)
    }

    func pour(_ count: Int) {
        total = count
        streamWritable()
    }

    func streamRead(_ bytes: ByteBuffer) {
        decoder.feed(bytes)
        drain()
    }

    func streamFinished() {
        do {
            try decoder.finish()
        } catch {
            log.update { $0.problem = "\(error)" }
        }
        drain()
    }

    private func drain() {
        do {
            while let event = try decoder.next() {
                switch event {
                case .accepted: log.update { $0.isAccepted = true }
                case .interim(let head): log.update { $0.interim.append(head) }
                case .head(let head): log.update { $0.head = head }
                case .data(let bytes):
                    log.update {
                        $0.bytes += bytes.readableBytes
                        $0.checksum.add(bytes)
                        // Small bodies are kept; large ones are compared by their checksum.
                        if $0.bytes <= 4096 { $0.body += String(buffer: bytes) }
                    }
                    if !holdsCredit { stream?.consumed(bytes.readableBytes) }
                case .trailers(let fields): log.update { $0.trailers = fields }
                case .end: log.update { $0.isComplete = true }
                }
            }
        } catch {
            log.update { $0.problem = "\(error)" }
        }
        stream?.consumed(decoder.drainOverhead())
    }

    func streamFailed(_ failure: StreamFailure) {
        log.update { $0.failure = failure }
        stream = nil
    }

    func streamStopped(code: ApplicationErrorCode) { log.update { $0.stopped = HopCode(code) } }

    func streamWritable() {
        guard let stream, position < total else { return }
        while position < total, stream.isWritable {
            let piece = min(32 << 10, total - position)
            var frame = ByteBuffer()
            MessageEncoder.writeData(pattern(at: position, count: piece), into: &frame)
            stream.write(frame)
            position += piece
        }
        if position == total { stream.finish() }
    }
}
