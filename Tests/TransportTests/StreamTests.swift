import DTLS
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing
import Transport
import Tunnel

@Suite("Back-pressure, resets and the ends of streams", .serialized)
struct StreamTests {
    /// A handler that writes as long as the stream is writable, and counts.
    private final class Greedy: StreamHandler {
        let accepted: Observed<Int>
        private var stream: TunnelStream?

        init(_ accepted: Observed<Int>) { self.accepted = accepted }

        func begin(_ stream: TunnelStream) {
            self.stream = stream
            pump()
        }

        private func pump() {
            guard let stream else { return }
            while stream.isWritable {
                stream.write(StreamRecorder.payload(at: 0, count: 16 << 10))
                accepted.update { $0 += 16 << 10 }
            }
        }

        func streamRead(_ bytes: ByteBuffer) {}
        func streamFinished() {}
        func streamFailed(_ failure: StreamFailure) { stream = nil }
        func streamStopped(code: ApplicationErrorCode) {}
        func streamWritable() { pump() }
    }

    @Test("A reader that never consumes limits its writer", arguments: [true, false])
    func backPressure(sameLoop: Bool) async throws {
        let received = Observed(StreamLog())
        let fixture = try await Fixture(loops: 2) { _, stream in
            stream.handler = StreamRecorder(stream: stream, behaviour: .hold, log: received)
        }
        let (session, accepted) = try await fixture.connect(on: fixture.loops[1])
        let count = Observed(0)
        let loop = sameLoop ? fixture.loops[1] : fixture.loops[0]
        let stream = try await loop.submit {
            let greedy = Greedy(count)
            let stream = session.openStream(handler: greedy, on: loop)
            greedy.begin(stream)
            return stream
        }.get()
        // The stream's window: 64 KiB at first, and it grows only while its consumer keeps up.
        try await received.wait("a window full") { $0.bytes >= 64 << 10 }
        // An echo on another stream takes several round trips, in which the greedy writer comes to rest.
        let (_, echo) = try await fixture.stream(accepted, on: fixture.loops[0], .send(200_000))
        try await echo.wait("another stream is not stopped") { $0.isOver }
        let window = 64 << 10
        #expect(received.value.bytes == window)
        #expect(count.value >= TunnelStream.highMark, "it may always write so much")
        #expect(count.value <= window + TunnelStream.highMark + 16 << 10)
        let isWritable = try await loop.submit { stream.isWritable }.get()
        #expect(!isWritable)
        try await fixture.close()
    }

    @Test("Late credit lets all bytes through", arguments: [true, false])
    func lateCredit(sameLoop: Bool) async throws {
        let held = Mutex<TunnelStream?>(nil)
        let received = Observed(StreamLog())
        let fixture = try await Fixture(loops: 2) { _, stream in
            held.withLock { $0 = stream }
            stream.handler = StreamRecorder(stream: stream, behaviour: .hold, log: received)
        }
        let (session, _) = try await fixture.connect(on: fixture.loops[1])
        let (_, log) = try await fixture.stream(session, on: fixture.loops[sameLoop ? 1 : 0], .send(2_000_000))
        var given = 0
        while given < 2_000_000 {
            let known = given
            let bytes = try await received.wait("more") { $0.bytes > known }.bytes
            guard bytes > given, let stream = held.withLock({ $0 }) else { break }
            let count = bytes - given
            try await stream.userLoop.submit { stream.consumed(count) }.get()
            given = bytes
        }
        let result = try await received.wait("the end") { $0.isOver }
        var expected = Checksum()
        StreamRecorder.payload(at: 0, count: 2_000_000).withUnsafeReadableBytes { expected.add($0) }
        #expect(result.checksum == expected && result.finished == 1)
        #expect(log.value.failures.isEmpty)
        try await fixture.close()
    }

    @Test("A reset reaches the peer with its code, and both ends forget the stream", arguments: [true, false])
    func reset(sameLoop: Bool) async throws {
        let received = Observed(StreamLog())
        let fixture = try await Fixture(loops: 2) { _, stream in
            stream.handler = StreamRecorder(stream: stream, behaviour: .swallow, log: received)
        }
        let (session, accepted) = try await fixture.connect(on: fixture.loops[1])
        let loop = fixture.loops[sameLoop ? 1 : 0]
        let (stream, log) = try await fixture.stream(session, on: loop, .hold)
        try await loop.submit { stream.write(ByteBuffer(string: "half a message")) }.get()
        try await received.wait("the bytes") { $0.bytes == 14 }
        try await loop.submit {
            stream.reset(ApplicationErrorCode(rawValue: 7))
            stream.stopSending(ApplicationErrorCode(rawValue: 8))
        }.get()
        let result = try await received.wait("the reset") { !$0.failures.isEmpty }
        #expect(
            result.failures == [
                StreamFailure(reason: .reset(code: ApplicationErrorCode(rawValue: 7)), anyByteSent: false)
            ]
        )
        // The handler wrote nothing, so the other direction was abandoned on its behalf.
        try await Self.forgotten(session)
        try await Self.forgotten(accepted)
        #expect(log.value.failures.isEmpty && log.value.finished == 0, "a cancelled stream reports nothing more")
        #expect(received.value.late == 0)
        try await fixture.close()
    }

    @Test("STOP_SENDING stops the writer and does not affect the other direction")
    func stopSending() async throws {
        let received = Observed(StreamLog())
        let stopped = Mutex<TunnelStream?>(nil)
        let fixture = try await Fixture(loops: 2) { _, stream in
            stopped.withLock { $0 = stream }
            stream.handler = StreamRecorder(stream: stream, behaviour: .swallow, log: received)
        }
        let (session, accepted) = try await fixture.connect(on: fixture.loops[1])
        let (stream, log) = try await fixture.stream(session, on: fixture.loops[0], .hold)
        try await fixture.loops[0].submit { stream.write(ByteBuffer(string: "upload")) }.get()
        try await received.wait("the bytes") { $0.bytes == 6 }
        let peer = try #require(stopped.withLock { $0 })
        try await peer.userLoop.submit {
            peer.write(ByteBuffer(string: "whole answer"))
            peer.finish()
            peer.stopSending(.noError)
        }.get()
        let result = try await log.wait("the answer and the stop") { $0.finished == 1 && !$0.stopped.isEmpty }
        #expect(result.bytes == 12 && result.stopped == [.noError] && result.failures.isEmpty)
        let isWritable = try await fixture.loops[0].submit {
            stream.write(ByteBuffer(string: "ignored"))
            stream.consumed(12)
            return stream.isWritable
        }.get()
        #expect(!isWritable)
        try await Self.forgotten(session)
        try await Self.forgotten(accepted)
        try await fixture.close()
    }

    @Test("A stream beyond the peer's limit is refused, with the proof that nothing was sent")
    func refused() async throws {
        var configuration = TunnelListenerConfiguration()
        configuration.session.tunnel.maxStreams = 2
        let fixture = try await Fixture(loops: 2, configuration: configuration) { _, stream in
            stream.handler = StreamRecorder(stream: stream, behaviour: .hold)
        }
        let (session, _) = try await fixture.connect(on: fixture.loops[1])
        var logs: [Observed<StreamLog>] = []
        for loop in [0, 1, 0, 1] {
            logs.append(try await fixture.stream(session, on: fixture.loops[loop], .send(10)).log)
        }
        for log in logs[2...] {
            let result = try await log.wait("the refusal") { $0.isOver }
            #expect(result.failures == [StreamFailure(reason: .refused, anyByteSent: false)])
        }
        #expect(logs[0].value.failures.isEmpty && logs[1].value.failures.isEmpty)
        try await fixture.close()
    }

    @Test("The control stream carries bytes both ways")
    func control() async throws {
        let received = Observed(StreamLog())
        let fixture = try await Fixture(loops: 2)
        let (session, accepted) = try await fixture.connect(on: fixture.loops[1])
        // The handler is set after the bytes have arrived: nothing is lost.
        try await session.loop.submit { session.control.write(StreamRecorder.payload(at: 0, count: 20_000)) }.get()
        try await accepted.loop.submit {
            accepted.control.handler = StreamRecorder(stream: accepted.control, behaviour: .echo, log: received)
        }.get()
        let echo = Observed(StreamLog())
        try await session.loop.submit {
            session.control.handler = StreamRecorder(stream: session.control, behaviour: .swallow, log: echo)
        }.get()
        try await echo.wait("the echo") { $0.bytes == 20_000 }
        #expect(echo.value.checksum == received.value.checksum)
        try await fixture.close()
    }

    /// Waits until the session has no streams but the control stream.
    private static func forgotten(_ session: TunnelSession) async throws {
        let open = Observed(-1)
        let task = session.loop.scheduleRepeatedTask(initialDelay: .zero, delay: .milliseconds(2)) { _ in
            let count = session.statistics.openStreams
            open.update { $0 = count }
        }
        defer { task.cancel() }
        try await open.wait("streams forgotten") { $0 == 0 }
    }
}
