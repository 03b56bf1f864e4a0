import DTLS
import Glibc
import NIOCore
import NIOPosix
import Synchronization
import Testing
import Transport
import Tunnel

@Suite("Random operations across loops", .serialized)
struct RandomTests {
    /// `HOPGATE_SEEDS` makes a long test of a short one.
    private static let seeds = getenv("HOPGATE_SEEDS").flatMap { UInt64(String(cString: $0)) } ?? 4

    /// Checks that what arrives is a prefix of the payload, then does something at random.
    private final class Wild: StreamHandler {
        struct Outcome: Sendable {
            var streams = 0
            var over = 0
            var wrong: [String] = []
            var bytes = 0
            var finished = 0
            var failed = 0
        }

        private let outcome: Signal<Outcome>
        private var random: SplitMix
        private var stream: TunnelStream?
        private var read = 0
        private var written = 0
        private var owed = 0
        private var steps = 0
        private var isFinished = false
        private var isSendingOver = false
        /// Hears nothing more and does nothing more.
        private var hasGivenUp = false
        private var isDone = false

        init(seed: UInt64, outcome: Signal<Outcome>) {
            self.random = SplitMix(seed: seed)
            self.outcome = outcome
            outcome.update { $0.streams += 1 }
        }

        func begin(_ stream: TunnelStream) {
            self.stream = stream
            self.act()
        }

        private func act() {
            guard let stream = self.stream, !self.hasGivenUp else { return }
            self.steps += 1
            for _ in 0..<Int(self.random.next() % 3 + 1) {
                switch self.random.next() % 400 {
                case 0 where self.steps > 3:
                    self.isSendingOver = true
                    stream.reset(.cancelled)
                case 1 where self.steps > 3:
                    // From here on nothing more is heard of the peer's direction.
                    stream.stopSending(.cancelled)
                    if !self.isSendingOver { stream.finish() }
                    self.hasGivenUp = true
                    self.end()
                    return
                case 2...12 where !self.isSendingOver && self.steps > 2:
                    self.isSendingOver = true
                    stream.finish()
                case 13...80:
                    stream.consumed(self.owed)
                    self.owed = 0
                default:
                    guard !self.isSendingOver, stream.isWritable else { continue }
                    let count = Int(self.random.next() % 60_000) + 1
                    stream.write(StreamRecorder.payload(at: self.written, count: count))
                    self.written += count
                }
            }
            // Another turn, not another call: between them messages of other loops come in.
            let step = UncheckedSendable(self)
            if self.steps < 60 {
                stream.userLoop.execute { step.value.act() }
            } else {
                if !self.isSendingOver {
                    self.isSendingOver = true
                    stream.finish()
                }
                if self.owed > 0 { stream.consumed(self.owed) }
                self.owed = 0
            }
        }

        private func end() {
            guard !self.isDone else { return }
            self.isDone = true
            self.outcome.update { $0.over += 1 }
        }

        func streamRead(_ bytes: ByteBuffer) {
            if self.hasGivenUp { return }
            if self.isFinished { self.outcome.update { $0.wrong.append("bytes after the end") } }
            let count = bytes.readableBytes
            let expected = StreamRecorder.payload(at: self.read, count: count)
            if bytes.readableBytesView != expected.readableBytesView {
                self.outcome.update { $0.wrong.append("wrong bytes") }
            }
            self.read += count
            if self.steps >= 60 {
                self.stream?.consumed(count)
            } else {
                self.owed += count
            }
            self.outcome.update { $0.bytes += count }
        }

        func streamFinished() {
            if self.isFinished { self.outcome.update { $0.wrong.append("finished twice") } }
            self.isFinished = true
            self.outcome.update { $0.finished += 1 }
            self.end()
        }

        func streamFailed(_ failure: StreamFailure) {
            if failure.reason == .refused { self.outcome.update { $0.wrong.append("refused") } }
            if failure.reason == .sessionEnded { self.outcome.update { $0.wrong.append("session ended") } }
            self.outcome.update { $0.failed += 1 }
            self.stream = nil
            self.end()
        }

        func streamStopped(code: ApplicationErrorCode) { self.isSendingOver = true }
        func streamWritable() {}
    }

    @Test("Streams survive the loss of every eighth burst in both directions")
    func lossy() async throws {
        let fixture = try await Fixture(loops: 2)
        let (session, accepted) = try await fixture.connect(on: fixture.loops[1])
        for (side, seed) in [(session, UInt64(1)), (accepted, 2)] {
            let random = Mutex(SplitMix(seed: seed))
            // As if it had been sent.
            try await side.loop.submit {
                side.sender.injectedFailure = { _, _ in random.withLock { $0.next() % 8 == 0 ? 0 : nil } }
            }.get()
        }
        var expected = Checksum()
        StreamRecorder.payload(at: 0, count: 200_000).withUnsafeReadableBytes { expected.add($0) }
        var logs: [Signal<StreamLog>] = []
        for index in 0..<8 {
            logs.append(
                try await fixture.stream(
                    index % 2 == 0 ? session : accepted,
                    on: fixture.loops[(index / 2) % 2],
                    .send(200_000)
                ).log
            )
        }
        for log in logs {
            let result = await log.wait("the echo", limit: .seconds(60)) { $0.isOver }
            #expect(result.bytes == 200_000 && result.checksum == expected && result.finished == 1)
        }
        let statistics = try await session.loop.submit { session.statistics }.get()
        #expect(statistics.packetsLost > 0)
        try await fixture.close()
    }

    @Test(
        "Streams of three loops over one session keep their bytes in order, whatever is done to them",
        arguments: 0..<Self.seeds
    )
    func wild(seed: UInt64) async throws {
        let outcome = Signal(Wild.Outcome())
        let number = Mutex(seed * 1_000)
        let fixture = try await Fixture(loops: 3) { _, stream in
            let wild = Wild(
                seed: number.withLock {
                    $0 += 1; return $0
                },
                outcome: outcome
            )
            stream.handler = wild
            wild.begin(stream)
        }
        let (session, accepted) = try await fixture.connect(on: fixture.loops[1])
        let dialled = Signal(Wild.Outcome())
        for index in 0..<120 {
            let loop = fixture.loops[index % 3]
            let opener = fixture.loops[(index / 3) % 3]
            let seed = seed * 1_000 + 500 + UInt64(index)
            // The opener may be the session's loop, the user's, or a third one.
            let bound = try await opener.submit {
                let wild = UncheckedSendable(Wild(seed: seed, outcome: dialled))
                return (session.openStream(handler: wild.value, on: loop), wild)
            }.get()
            loop.execute { bound.1.value.begin(bound.0) }
        }
        let here = await dialled.wait("all over", limit: .seconds(60)) { $0.over == 120 }
        #expect(here.wrong.isEmpty)
        // A stream that was given up before its first byte left is never seen there.
        let there = await outcome.wait("all over there", limit: .seconds(60)) { $0.over == $0.streams }
        #expect(there.wrong.isEmpty)
        #expect(here.bytes > 0 && there.bytes > 0)
        #expect(here.finished + there.finished > 0 && here.failed + there.failed > 0)
        for side in [session, accepted] {
            let open = Signal(-1)
            let task = side.loop.scheduleRepeatedTask(initialDelay: .zero, delay: .milliseconds(5)) { _ in
                let count = side.statistics.openStreams
                open.update { $0 = count }
            }
            await open.wait("streams forgotten") { $0 == 0 }
            task.cancel()
        }
        try await fixture.close()
    }
}
