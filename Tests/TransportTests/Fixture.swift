import DTLS
import NIOCore
import NIOPosix
import Synchronization
import Testing
import Transport
import Tunnel

/// What a session told its handler.
struct SessionLog: Sendable {
    var established = 0
    var closed: [SessionCloseReason] = []
    var opened = 0
}

/// A session's handler made of closures, which run on the session's loop.
final class ScriptedSession: SessionHandler {
    let log: Signal<SessionLog>
    private let established: @Sendable (TunnelSession) -> Void
    private let opened: @Sendable (TunnelSession, TunnelStream) -> Void

    init(
        log: Signal<SessionLog> = Signal(SessionLog()),
        established: @escaping @Sendable (TunnelSession) -> Void = { _ in },
        opened: @escaping @Sendable (TunnelSession, TunnelStream) -> Void = { _, stream in
            stream.handler = StreamRecorder(stream: stream, behaviour: .echo)
        }
    ) {
        self.log = log
        self.established = established
        self.opened = opened
    }

    func sessionEstablished(_ session: TunnelSession) {
        self.established(session)
        self.log.update { $0.established += 1 }
    }

    func session(_ session: TunnelSession, opened stream: TunnelStream) {
        self.opened(session, stream)
        self.log.update { $0.opened += 1 }
    }

    func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason) {
        self.log.update { $0.closed.append(reason) }
    }
}

/// What a stream told its handler.
struct StreamLog: Sendable {
    var bytes = 0
    var checksum = Checksum()
    var finished = 0
    var failures: [StreamFailure] = []
    var stopped: [ApplicationErrorCode] = []
    var writable = 0
    /// Callbacks after the last one.
    var late = 0

    var isOver: Bool { self.finished > 0 || !self.failures.isEmpty }
}

/// FNV-1a over a stream's bytes, position by position.
struct Checksum: Equatable, Sendable {
    private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    mutating func add(_ bytes: UnsafeRawBufferPointer) {
        var value = self.value
        for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
        self.value = value
    }
}

/// A stream's handler that records, and echoes or swallows or holds what it reads.
final class StreamRecorder: StreamHandler {
    enum Behaviour {
        /// Writes back what it reads and gives credit once that could be written.
        case echo
        /// Gives credit at once.
        case swallow
        /// Never gives credit.
        case hold
        /// Sends so many bytes of ``payload(at:count:)`` and finishes, giving credit for what it reads.
        case send(Int)
    }

    let log: Signal<StreamLog>
    private let behaviour: Behaviour
    private var stream: TunnelStream?
    private var position = 0
    private var unacknowledged = 0
    private var hasFinished = false

    init(stream: TunnelStream? = nil, behaviour: Behaviour, log: Signal<StreamLog> = Signal(StreamLog())) {
        self.stream = stream
        self.behaviour = behaviour
        self.log = log
    }

    /// On the stream's loop, after it was opened with this handler.
    func begin(_ stream: TunnelStream) {
        self.stream = stream
        self.pump()
    }

    static func payload(at position: Int, count: Int) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(count)
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { bytes in
            for index in 0..<count {
                let place = UInt64(position + index)
                bytes[index] = UInt8(truncatingIfNeeded: (place &* 0x9E37_79B9) >> 13)
            }
            return count
        }
        return buffer
    }

    private func pump() {
        guard case .send(let total) = self.behaviour, let stream = self.stream, !self.hasFinished else { return }
        while self.position < total && stream.isWritable {
            let count = min(32 << 10, total - self.position)
            stream.write(Self.payload(at: self.position, count: count))
            self.position += count
        }
        if self.position == total {
            self.hasFinished = true
            stream.finish()
        }
    }

    func streamRead(_ bytes: ByteBuffer) {
        let count = bytes.readableBytes
        self.log.update { log in
            if log.isOver { log.late += 1 }
            log.bytes += count
            bytes.withUnsafeReadableBytes { log.checksum.add($0) }
        }
        switch self.behaviour {
        case .echo:
            self.stream?.write(bytes)
            if self.stream?.isWritable == true { self.stream?.consumed(count) } else { self.unacknowledged += count }
        case .swallow, .send:
            self.stream?.consumed(count)
        case .hold:
            break
        }
    }

    func streamFinished() {
        if case .echo = self.behaviour { self.stream?.finish() }
        self.log.update { log in
            if log.isOver { log.late += 1 }
            log.finished += 1
        }
    }

    func streamFailed(_ failure: StreamFailure) {
        self.log.update { log in
            if !log.failures.isEmpty { log.late += 1 }
            log.failures.append(failure)
        }
        self.stream = nil
    }

    func streamStopped(code: ApplicationErrorCode) { self.log.update { $0.stopped.append(code) } }

    func streamWritable() {
        self.log.update { $0.writable += 1 }
        if self.unacknowledged > 0 {
            self.stream?.consumed(self.unacknowledged)
            self.unacknowledged = 0
        }
        self.pump()
    }
}

/// A listener and what dials it, in this process, on loops of its own.
final class Fixture: Sendable {
    let group: MultiThreadedEventLoopGroup
    let loops: [any EventLoop]
    let listener: TunnelListener
    let listenerLog = Signal(SessionLog())
    /// Sessions that the listener accepted.
    let accepted = Signal<[TunnelSession]>([])
    let failedHandshakes: Signal<[SessionCloseReason]>
    private let dialled = Signal<[(session: TunnelSession, log: Signal<SessionLog>)]>([])

    init(
        loops count: Int = 2,
        listenerLoops: Int = 1,
        configuration: TunnelListenerConfiguration = TunnelListenerConfiguration(),
        alpn: [String] = ["hop/1"],
        authenticates: Bool = true,
        opened: @escaping @Sendable (TunnelSession, TunnelStream) -> Void = { _, stream in
            stream.handler = StreamRecorder(stream: stream, behaviour: .echo)
        }
    ) async throws {
        self.group = MultiThreadedEventLoopGroup(numberOfThreads: count)
        self.loops = Array(self.group.makeIterator())
        let context = try DTLSContext.server(
            DTLSServerConfiguration(
                certificateChainPEM: TestCertificates.leaf,
                privateKeyPEM: TestCertificates.leafKey,
                alpn: alpn
            )
        )
        let failed = Signal<[SessionCloseReason]>([])
        self.failedHandshakes = failed
        var configuration = configuration
        // Streams can be opened by the client as soon as PARAMETERS are there.
        configuration.session.tunnel.startsAuthenticated = authenticates
        configuration.handshakeFailed = { _, reason in failed.update { $0.append(reason) } }
        let (log, accepted) = (self.listenerLog, self.accepted)
        self.listener = try await TunnelListener.bind(
            host: "127.0.0.1",
            port: 0,
            loops: Array(self.loops[..<listenerLoops]),
            configuration: configuration,
            context: { context },
            accept: { session in
                ScriptedSession(
                    log: log,
                    established: { session in
                        if authenticates { session.authenticated() }
                        accepted.update { $0.append(session) }
                    },
                    opened: opened
                )
            }
        )
    }

    func dial(
        on loop: (any EventLoop)? = nil,
        to address: SocketAddress? = nil,
        trust: DTLSTrust = .caPEM(TestCertificates.root),
        serverName: String = "localhost",
        alpn: [String] = ["hop/1"],
        configuration: TunnelDialerConfiguration = TunnelDialerConfiguration(),
        counters: TransportCounters = TransportCounters(),
        log: Signal<SessionLog> = Signal(SessionLog()),
        opened: @escaping @Sendable (TunnelSession, TunnelStream) -> Void = { _, stream in
            stream.handler = StreamRecorder(stream: stream, behaviour: .echo)
        }
    ) async throws -> TunnelSession {
        let context = try DTLSContext.client(DTLSClientConfiguration(trust: trust, alpn: alpn))
        let loop = loop ?? self.loops[self.loops.count - 1]
        let address = address ?? self.listener.localAddress
        let session = try await loop.submit {
            try TunnelDialer.dial(
                to: address,
                serverName: serverName,
                context: context,
                configuration: configuration,
                on: loop,
                counters: counters,
                handler: ScriptedSession(log: log, opened: opened)
            )
        }.get()
        self.dialled.update { $0.append((session, log)) }
        return session
    }

    /// A session of each end, established.
    func connect(on loop: (any EventLoop)? = nil) async throws -> (dialled: TunnelSession, accepted: TunnelSession) {
        let log = Signal(SessionLog())
        let before = self.accepted.value.count
        let session = try await self.dial(on: loop, log: log)
        await log.wait("established") { $0.established == 1 || !$0.closed.isEmpty }
        let all = await self.accepted.wait("accepted") { $0.count > before }
        return (session, try #require(all.last))
    }

    /// Opens a stream on `loop` that behaves so.
    func stream(
        _ session: TunnelSession,
        on loop: any EventLoop,
        _ behaviour: StreamRecorder.Behaviour
    ) async throws -> (stream: TunnelStream, log: Signal<StreamLog>) {
        let log = Signal(StreamLog())
        let stream = try await loop.submit {
            let recorder = StreamRecorder(behaviour: behaviour, log: log)
            let stream = session.openStream(handler: recorder, on: loop)
            recorder.begin(stream)
            return stream
        }.get()
        return (stream, log)
    }

    /// Nothing may be said to a loop that is gone, so everybody leaves first.
    func close() async throws {
        for (session, log) in self.dialled.value {
            session.close(.noError, reason: "the test is over")
            await log.wait("closed") { !$0.closed.isEmpty }
        }
        await self.listener.close()
        for _ in 0..<2 {
            for loop in self.loops { try await loop.submit {}.get() }
        }
        try await self.group.shutdownGracefully()
    }
}
