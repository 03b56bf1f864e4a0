import Credentials
import DTLS
import Gateway
import HopProtocol
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing
import Transport
import Tunnel

/// An agent that a test plays by hand: it attaches over real DTLS and shows every request stream to a script.
final class TestAgent: Sendable {
    private struct State {
        var welcome: Welcome?
        var error: ErrorMessage?
        var goaway: Goaway?
        var hosts: [Hosts] = []
        var closed: SessionCloseReason?
        var session: TunnelSession?
        var requests: [TestRequest] = []
    }

    private final class Shared: Sendable {
        let state = Mutex(State())
    }

    private let shared: Shared
    private let loop: any EventLoop

    private init(shared: Shared, loop: any EventLoop) {
        self.shared = shared
        self.loop = loop
    }

    /// Dials and sends HELLO. `script` is called for each request when its head has arrived, on the agent's loop.
    static func attach(
        to gateway: TestGateway,
        tokenID: String? = nil,
        secret: String? = nil,
        name: String = "pod-1",
        run: RunID = .random(),
        services: [String] = ["web", "api"],
        hosts: [String] = [],
        maxRequests: Int = 100,
        isReady: Bool = true,
        on loop: any EventLoop = MultiThreadedEventLoopGroup.singleton.next(),
        script: @escaping @Sendable (TestRequest) -> Void = { _ in }
    ) async throws -> TestAgent {
        let hello = Hello(
            tokenID: tokenID ?? gateway.token.id,
            secret: secret ?? gateway.token.secret,
            name: name,
            run: run,
            attach: 1,
            services: services,
            hosts: hosts,
            maxRequests: maxRequests
        )
        return try await dial(to: gateway, [.hello(hello)], isReady: isReady, on: loop, script: script)
    }

    /// Dials and sends messages, the first of which is HELLO.
    static func dial(
        to gateway: TestGateway,
        _ messages: [ControlMessage],
        isReady: Bool = true,
        on loop: any EventLoop = MultiThreadedEventLoopGroup.singleton.next(),
        script: @escaping @Sendable (TestRequest) -> Void = { _ in }
    ) async throws -> TestAgent {
        let shared = Shared()
        let context = try DTLSContext.client(.init(trust: .caPEM(try gateway.rootPEM), alpn: ["hop/1"]))
        let address = gateway.process.dtlsAddress
        try await loop.submit {
            let handler = Handler(messages: messages, shared: shared, script: script)
            var configuration = TunnelDialerConfiguration()
            configuration.session.tunnel.startsAuthenticated = true
            let session = try TunnelDialer.dial(
                to: address,
                serverName: "localhost",
                context: context,
                configuration: configuration,
                on: loop,
                handler: handler
            )
            shared.state.withLock { $0.session = session }
        }.get()
        let agent = TestAgent(shared: shared, loop: loop)
        if isReady {
            try await eventually("WELCOME (\(String(describing: agent.error)), \(String(describing: agent.closed)))") {
                agent.welcome != nil
            }
        }
        return agent
    }

    var welcome: Welcome? { shared.state.withLock { $0.welcome } }
    var error: ErrorMessage? { shared.state.withLock { $0.error } }
    var goaway: Goaway? { shared.state.withLock { $0.goaway } }
    /// The HOSTS messages so far.
    var hosts: [Hosts] { shared.state.withLock { $0.hosts } }
    var closed: SessionCloseReason? { shared.state.withLock { $0.closed } }
    var requests: [TestRequest] { shared.state.withLock { $0.requests } }

    /// Sends more messages.
    func send(_ messages: [ControlMessage]) throws {
        guard let session = shared.state.withLock({ $0.session }) else { return }
        for message in messages {
            let bytes = try ControlCodec.encode(message)
            loop.execute { session.control.write(bytes) }
        }
    }

    func close() { shared.state.withLock { $0.session }?.close(.noError, reason: "test") }

    private final class Handler: SessionHandler, StreamHandler {
        let messages: [ControlMessage]
        let shared: Shared
        let script: @Sendable (TestRequest) -> Void
        var codec = ControlCodec()
        var control: TunnelStream?

        init(messages: [ControlMessage], shared: Shared, script: @escaping @Sendable (TestRequest) -> Void) {
            self.messages = messages
            self.shared = shared
            self.script = script
        }

        func sessionEstablished(_ session: TunnelSession) {
            control = session.control
            session.control.handler = self
            var bytes = ByteBuffer()
            for message in messages {
                if var encoded = try? ControlCodec.encode(message) { bytes.writeBuffer(&encoded) }
            }
            session.control.write(bytes)
        }

        func session(_ session: TunnelSession, opened stream: TunnelStream) {
            let request = TestRequest(stream: stream, script: script)
            shared.state.withLock { $0.requests.append(request) }
            stream.handler = request
        }

        func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason) {
            shared.state.withLock { $0.closed = reason }
        }

        func streamRead(_ bytes: ByteBuffer) {
            control?.consumed(bytes.readableBytes)
            codec.feed(bytes)
            while let message = try? codec.next() {
                shared.state.withLock { state in
                    switch message {
                    case .welcome(let welcome): state.welcome = welcome
                    case .error(let error): state.error = error
                    case .goaway(let goaway): state.goaway = goaway
                    case .hosts(let hosts): state.hosts.append(hosts)
                    default: break
                    }
                }
            }
        }

        func streamFinished() {}
        func streamFailed(_ failure: StreamFailure) {}
        func streamStopped(code: ApplicationErrorCode) {}
        func streamWritable() {}
    }
}

/// One request as the agent sees it.
final class TestRequest: StreamHandler, Sendable {
    struct Seen {
        var head: RequestHead?
        var body: [UInt8] = []
        var trailers: FieldSection?
        var isEnded = false
        var resetCode: ApplicationErrorCode?
        var stoppedCode: ApplicationErrorCode?
        var isFailed = false
        var takesBody = true
        var isAccepted = false
    }

    private struct State {
        var seen = Seen()
        var decoder = RequestDecoder()
    }

    private let state = Mutex(State())
    private let stream: TunnelStream
    private let script: @Sendable (TestRequest) -> Void

    init(stream: TunnelStream, script: @escaping @Sendable (TestRequest) -> Void) {
        self.stream = stream
        self.script = script
    }

    var seen: Seen { state.withLock { $0.seen } }
    var head: RequestHead? { seen.head }
    var body: String { String(decoding: seen.body, as: UTF8.self) }
    func field(_ name: String) -> String? { head?.fields.first(name) }

    /// No credit is given for the body from now on.
    func holdBody() { state.withLock { $0.seen.takesBody = false } }
    func upgraded() { state.withLock { $0.decoder.upgraded() } }

    // MARK: Answering, from anywhere

    /// Sends ACCEPTED, once. Every head below sends it first.
    func accept() {
        let isAccepted = state.withLock { state in
            defer { state.seen.isAccepted = true }
            return state.seen.isAccepted
        }
        if !isAccepted { write { MessageEncoder.writeAccepted(into: &$0) } }
    }

    func head(_ status: Int, _ fields: KeyValuePairs<String, String> = [:]) {
        accept()
        let section = FieldSection(fields)
        write { try? MessageEncoder.writeResponseHead(ResponseHead(status: status, fields: section), into: &$0) }
    }

    func data(_ text: String) { data(ByteBuffer(string: text)) }

    func data(_ bytes: ByteBuffer) {
        write { MessageEncoder.writeData(bytes, into: &$0) }
    }

    func trailers(_ fields: KeyValuePairs<String, String>) {
        let section = FieldSection(fields)
        write { try? MessageEncoder.writeTrailers(section, into: &$0) }
    }

    func finish() { onLoop { $0.finish() } }
    func reset(_ code: HopCode) { onLoop { $0.reset(code.wireCode) } }
    func stopSending(_ code: HopCode) { onLoop { $0.stopSending(code.wireCode) } }

    func answer(_ status: Int = 200, _ body: String, _ fields: KeyValuePairs<String, String> = [:]) {
        var section = FieldSection(fields)
        section.append(name: "Content-Length", value: String(body.utf8.count))
        let head = ResponseHead(status: status, fields: section)
        accept()
        write {
            try? MessageEncoder.writeResponseHead(head, into: &$0)
            if !body.isEmpty { MessageEncoder.writeData(ByteBuffer(string: body), into: &$0) }
        }
        finish()
    }

    private func write(_ body: @escaping @Sendable (inout ByteBuffer) -> Void) {
        onLoop { stream in
            var bytes = ByteBuffer()
            body(&bytes)
            stream.write(bytes)
        }
    }

    private func onLoop(_ body: @escaping @Sendable (TunnelStream) -> Void) {
        if stream.userLoop.inEventLoop {
            body(stream)
        } else {
            stream.userLoop.execute { [stream] in body(stream) }
        }
    }

    // MARK: StreamHandler

    func streamRead(_ bytes: ByteBuffer) {
        let (isHead, takesBody) = state.withLock { state in
            state.decoder.feed(bytes)
            return (Self.pump(&state), state.seen.takesBody)
        }
        if takesBody { stream.consumed(bytes.readableBytes) }
        if isHead { script(self) }
    }

    func streamFinished() {
        state.withLock { state in
            try? state.decoder.finish()
            _ = Self.pump(&state)
        }
    }

    private static func pump(_ state: inout State) -> Bool {
        var isHead = false
        while let event = try? state.decoder.next() {
            switch event {
            case .head(let head):
                state.seen.head = head
                isHead = true
            case .data(let bytes): state.seen.body.append(contentsOf: bytes.readableBytesView)
            case .trailers(let trailers): state.seen.trailers = trailers
            case .end: state.seen.isEnded = true
            }
        }
        return isHead
    }

    func streamFailed(_ failure: StreamFailure) {
        state.withLock { state in
            state.seen.isFailed = true
            if case .reset(let code) = failure.reason { state.seen.resetCode = code }
        }
    }

    func streamStopped(code: ApplicationErrorCode) { state.withLock { $0.seen.stoppedCode = code } }
    func streamWritable() {}
}
