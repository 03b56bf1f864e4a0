import DTLS
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing
import Transport
import Tunnel

/// The callbacks of a session's handler.
struct SessionLog: Sendable {
    var established = 0
    var closed: [SessionCloseReason] = []
    var opened = 0
    var suspected = 0
}

/// A session's handler made of closures, which run on the session's loop.
final class ScriptedSession: SessionHandler {
    let log: Observed<SessionLog>
    private let established: @Sendable (TunnelSession) -> Void
    private let opened: @Sendable (TunnelSession, TunnelStream) -> Void

    init(
        log: Observed<SessionLog> = Observed(SessionLog()),
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
        established(session)
        log.update { $0.established += 1 }
    }

    func session(_ session: TunnelSession, opened stream: TunnelStream) {
        opened(session, stream)
        log.update { $0.opened += 1 }
    }

    func sessionSuspected(_ session: TunnelSession) {
        log.update { $0.suspected += 1 }
    }

    func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason) {
        log.update { $0.closed.append(reason) }
    }
}

/// The callbacks of a stream's handler.
struct StreamLog: Sendable {
    var bytes = 0
    var checksum = Checksum()
    var finished = 0
    var failures: [StreamFailure] = []
    var stopped: [ApplicationErrorCode] = []
    var writable = 0
    /// The number of callbacks after the last one.
    var late = 0

    var isOver: Bool { finished > 0 || !failures.isEmpty }
}

/// An FNV-1a checksum of a stream's bytes, position by position.
struct Checksum: Equatable, Sendable {
    private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    mutating func add(_ bytes: UnsafeRawBufferPointer) {
        var value = self.value
        for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
        self.value = value
    }
}

/// A stream's handler that records, and echoes, drains or holds the bytes it reads.
final class StreamRecorder: StreamHandler {
    enum Behaviour {
        /// Writes back the bytes it reads, and returns credit once they could be written.
        case echo
        /// Returns credit at once.
        case swallow
        /// Never returns credit.
        case hold
        /// Sends a number of bytes of ``payload(at:count:)`` and finishes, returning credit for the bytes it reads.
        case send(Int)
    }

    let log: Observed<StreamLog>
    private let behaviour: Behaviour
    private var stream: TunnelStream?
    private var position = 0
    private var unacknowledged = 0
    private var hasFinished = false

    init(stream: TunnelStream? = nil, behaviour: Behaviour, log: Observed<StreamLog> = Observed(StreamLog())) {
        self.stream = stream
        self.behaviour = behaviour
        self.log = log
    }

    /// Starts the behaviour, on the stream's loop, after the stream was opened with this handler.
    func begin(_ stream: TunnelStream) {
        self.stream = stream
        pump()
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
        guard case .send(let total) = behaviour, let stream, !hasFinished else { return }
        while position < total && stream.isWritable {
            let count = min(32 << 10, total - position)
            stream.write(Self.payload(at: position, count: count))
            position += count
        }
        if position == total {
            hasFinished = true
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
        switch behaviour {
        case .echo:
            stream?.write(bytes)
            if stream?.isWritable == true { stream?.consumed(count) } else { unacknowledged += count }
        case .swallow, .send:
            stream?.consumed(count)
        case .hold:
            break
        }
    }

    func streamFinished() {
        if case .echo = behaviour { stream?.finish() }
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
        stream = nil
    }

    func streamStopped(code: ApplicationErrorCode) { log.update { $0.stopped.append(code) } }

    func streamWritable() {
        log.update { $0.writable += 1 }
        if unacknowledged > 0 {
            stream?.consumed(unacknowledged)
            unacknowledged = 0
        }
        pump()
    }
}

/// A listener and its clients in this process, on separate loops.
final class Fixture: Sendable {
    let group: MultiThreadedEventLoopGroup
    let loops: [any EventLoop]
    let listener: TunnelListener
    let listenerLog = Observed(SessionLog())
    /// The sessions that the listener accepted.
    let accepted = Observed<[TunnelSession]>([])
    let failedHandshakes: Observed<[SessionCloseReason]>
    private let connected = Observed<[(session: TunnelSession, log: Observed<SessionLog>)]>([])

    init(
        loops count: Int = 2,
        listenerLoops: Int = 1,
        configuration: TunnelListenerConfiguration = TunnelListenerConfiguration(),
        host: String = "127.0.0.1",
        alpn: [String] = ["hop/1"],
        authenticates: Bool = true,
        opened: @escaping @Sendable (TunnelSession, TunnelStream) -> Void = { _, stream in
            stream.handler = StreamRecorder(stream: stream, behaviour: .echo)
        }
    ) async throws {
        group = MultiThreadedEventLoopGroup(numberOfThreads: count)
        loops = Array(group.makeIterator())
        let context = try DTLSContext.server(
            DTLSServerConfiguration(
                certificateChainPEM: TestCertificate.localhost.chainBytes,
                privateKeyPEM: TestCertificate.localhost.keyBytes,
                alpn: alpn
            )
        )
        let failed = Observed<[SessionCloseReason]>([])
        failedHandshakes = failed
        var configuration = configuration
        // The client can open streams as soon as PARAMETERS have arrived.
        configuration.session.tunnel.startsAuthenticated = authenticates
        configuration.handshakeFailed = { _, reason in failed.update { $0.append(reason) } }
        let (log, accepted) = (listenerLog, self.accepted)
        listener = try await TunnelListener.bind(
            host: host,
            port: 0,
            loops: Array(loops[..<listenerLoops]),
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
        trust: DTLSTrust = .caPEM(TestAuthority.shared.pem),
        serverName: String = "localhost",
        alpn: [String] = ["hop/1"],
        configuration: TunnelDialerConfiguration = TunnelDialerConfiguration(),
        counters: TransportCounters = TransportCounters(),
        log: Observed<SessionLog> = Observed(SessionLog()),
        opened: @escaping @Sendable (TunnelSession, TunnelStream) -> Void = { _, stream in
            stream.handler = StreamRecorder(stream: stream, behaviour: .echo)
        }
    ) async throws -> TunnelSession {
        let context = try DTLSContext.client(DTLSClientConfiguration(trust: trust, alpn: alpn))
        let loop = loop ?? loops[loops.count - 1]
        let address = address ?? listener.localAddress
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
        connected.update { $0.append((session, log)) }
        return session
    }

    /// Returns a session of each end, established.
    func connect(on loop: (any EventLoop)? = nil) async throws -> (connected: TunnelSession, accepted: TunnelSession) {
        let log = Observed(SessionLog())
        let before = self.accepted.value.count
        let session = try await dial(on: loop, log: log)
        try await log.wait("established") { $0.established == 1 || !$0.closed.isEmpty }
        let all = try await self.accepted.wait("accepted") { $0.count > before }
        return (session, try #require(all.last))
    }

    /// Opens a stream on `loop` with the given behaviour.
    func stream(
        _ session: TunnelSession,
        on loop: any EventLoop,
        _ behaviour: StreamRecorder.Behaviour
    ) async throws -> (stream: TunnelStream, log: Observed<StreamLog>) {
        let log = Observed(StreamLog())
        let stream = try await loop.submit {
            let recorder = StreamRecorder(behaviour: behaviour, log: log)
            let stream = session.openStream(handler: recorder, on: loop)
            recorder.begin(stream)
            return stream
        }.get()
        return (stream, log)
    }

    /// Closes all sessions first, since nothing may be sent to a loop that is shut down.
    func close() async throws {
        for (session, log) in connected.value {
            session.close(.noError, reason: "the test is over")
            try await log.wait("closed") { !$0.closed.isEmpty }
        }
        await listener.close()
        for _ in 0..<2 {
            for loop in loops { try await loop.submit {}.get() }
        }
        try await group.shutdownGracefully()
    }
}
