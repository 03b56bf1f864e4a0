import DTLS
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing
import Transport
import Tunnel

@Suite("Random operations across loops", .serialized)
struct RandomTests {
    /// A handler that checks whether the received bytes are a prefix of the payload, and then performs a random action.
    private final class Wild: StreamHandler {
        struct Outcome: Sendable {
            var streams = 0
            var over = 0
            var wrong: [String] = []
            var bytes = 0
            var finished = 0
            var failed = 0
        }

        private let outcome: Observed<Outcome>
        private var random: SeededGenerator
        private var stream: TunnelStream?
        private var read = 0
        private var written = 0
        private var owed = 0
        private var steps = 0
        private var isFinished = false
        private var isSendingOver = false
        /// Whether the handler expects no more callbacks and performs no more actions.
        private var hasGivenUp = false
        private var isDone = false

        init(seed: UInt64, outcome: Observed<Outcome>) {
            random = SeededGenerator(seed: seed)
            self.outcome = outcome
            outcome.update { $0.streams += 1 }
        }

        func begin(_ stream: TunnelStream) {
            self.stream = stream
            act()
        }

        private func act() {
            guard let stream, !hasGivenUp else { return }
            steps += 1
            for _ in 0..<Int(random.next() % 3 + 1) {
                switch random.next() % 400 {
                case 0 where steps > 3:
                    isSendingOver = true
                    stream.reset(.cancelled)
                case 1 where steps > 3:
                    // No callback for the peer's direction may follow.
                    stream.stopSending(.cancelled)
                    if !isSendingOver { stream.finish() }
                    hasGivenUp = true
                    end()
                    return
                case 2...12 where !isSendingOver && steps > 2:
                    isSendingOver = true
                    stream.finish()
                case 13...80:
                    stream.consumed(owed)
                    owed = 0
                default:
                    guard !isSendingOver, stream.isWritable else { continue }
                    let count = Int(random.next() % 60_000) + 1
                    stream.write(StreamRecorder.payload(at: written, count: count))
                    written += count
                }
            }
            // Another turn, not another call: messages of other loops are delivered in between.
            let step = UncheckedSendable(self)
            if steps < 60 {
                stream.userLoop.execute { step.value.act() }
            } else {
                if !isSendingOver {
                    isSendingOver = true
                    stream.finish()
                }
                if owed > 0 { stream.consumed(owed) }
                owed = 0
            }
        }

        private func end() {
            guard !isDone else { return }
            isDone = true
            outcome.update { $0.over += 1 }
        }

        func streamRead(_ bytes: ByteBuffer) {
            if hasGivenUp { return }
            if isFinished { outcome.update { $0.wrong.append("bytes after the end") } }
            let count = bytes.readableBytes
            let expected = StreamRecorder.payload(at: read, count: count)
            if bytes.readableBytesView != expected.readableBytesView {
                outcome.update { $0.wrong.append("wrong bytes") }
            }
            read += count
            if steps >= 60 {
                stream?.consumed(count)
            } else {
                owed += count
            }
            outcome.update { $0.bytes += count }
        }

        func streamFinished() {
            if isFinished { outcome.update { $0.wrong.append("finished twice") } }
            isFinished = true
            outcome.update { $0.finished += 1 }
            end()
        }

        func streamFailed(_ failure: StreamFailure) {
            if failure.reason == .refused { outcome.update { $0.wrong.append("refused") } }
            if failure.reason == .sessionEnded { outcome.update { $0.wrong.append("session ended") } }
            outcome.update { $0.failed += 1 }
            stream = nil
            end()
        }

        func streamStopped(code: ApplicationErrorCode) { isSendingOver = true }
        func streamWritable() {}
    }

    @Test("Streams survive the loss of every eighth burst in both directions")
    func lossy() async throws {
        let fixture = try await Fixture(loops: 2)
        let (session, accepted) = try await fixture.connect(on: fixture.loops[1])
        for (side, seed) in [(session, UInt64(1)), (accepted, 2)] {
            let random = Mutex(SeededGenerator(seed: seed))
            // As if it had been sent.
            try await side.loop.submit {
                side.sender.injectedFailure = { _, _ in random.withLock { $0.next() % 8 == 0 ? 0 : nil } }
            }.get()
        }
        var expected = Checksum()
        StreamRecorder.payload(at: 0, count: 200_000).withUnsafeReadableBytes { expected.add($0) }
        var logs: [Observed<StreamLog>] = []
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
            let result = try await log.wait("the echo", within: .seconds(60)) { $0.isOver }
            #expect(result.bytes == 200_000 && result.checksum == expected && result.finished == 1)
        }
        let statistics = try await session.loop.submit { session.statistics }.get()
        #expect(statistics.packetsLost > 0)
        try await fixture.close()
    }

    @Test(
        "Streams of three loops over one session keep their bytes in order under random actions",
        arguments: 0..<UInt64(testSeeds(default: 4))
    )
    func wild(seed: UInt64) async throws {
        let outcome = Observed(Wild.Outcome())
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
        let connected = Observed(Wild.Outcome())
        for index in 0..<120 {
            let loop = fixture.loops[index % 3]
            let opener = fixture.loops[(index / 3) % 3]
            let seed = seed * 1_000 + 500 + UInt64(index)
            // The opener may be the session's loop, the user's, or a third one.
            let bound = try await opener.submit {
                let wild = UncheckedSendable(Wild(seed: seed, outcome: connected))
                return (session.openStream(handler: wild.value, on: loop), wild)
            }.get()
            loop.execute { bound.1.value.begin(bound.0) }
        }
        let here = try await connected.wait("all over", within: .seconds(60)) { $0.over == 120 }
        #expect(here.wrong.isEmpty)
        // A stream that was abandoned before its first byte left is never seen there.
        let there = try await outcome.wait("all over there", within: .seconds(60)) { $0.over == $0.streams }
        #expect(there.wrong.isEmpty)
        #expect(here.bytes > 0 && there.bytes > 0)
        #expect(here.finished + there.finished > 0 && here.failed + there.failed > 0)
        for side in [session, accepted] {
            let open = Observed(-1)
            let task = side.loop.scheduleRepeatedTask(initialDelay: .zero, delay: .milliseconds(5)) { _ in
                let count = side.statistics.openStreams
                open.update { $0 = count }
            }
            try await open.wait("streams forgotten") { $0 == 0 }
            task.cancel()
        }
        try await fixture.close()
    }
}
