import Gateway
import HopProtocol
import NIOCore
import Testing
import Transport

@Suite("What the end of a stream means")
struct FailureVerdictTests {
    @Test("Every code leads to its own status", arguments: HopCode.allCases)
    func status(code: HopCode) {
        // A stream that was reset before its head is never a success, and a client that left is never told.
        let verdict = FailureVerdict(code: code)
        let expected =
            switch code {
            case .cancelled: 502
            default: code.status
            }
        #expect(verdict.refusal.status == expected)
    }

    @Test("Only what provably did not start is tried again whatever its method", arguments: HopCode.allCases)
    func retry(code: HopCode) {
        #expect((FailureVerdict(code: code).retry == .always) == code.mayRetryElsewhere)
    }

    @Test("503 comes with Retry-After, everything else without")
    func retryAfter() {
        for refusal in Refusal.allCases {
            #expect((refusal.retryAfter != nil) == (refusal.status == 503), "\(refusal)")
        }
    }

    @Test("A lost session is a retry for all before the first byte, for idempotent requests after it")
    func session() {
        #expect(FailureVerdict(.init(reason: .sessionEnded, anyByteSent: false)).retry == .always)
        #expect(FailureVerdict(.init(reason: .sessionEnded, anyByteSent: true)).retry == .ifIdempotent)
        #expect(FailureVerdict(.init(reason: .refused, anyByteSent: false)).retry == .always)
        #expect(FailureVerdict(.init(reason: .reset(code: 9_999), anyByteSent: true)).retry == .never)
    }

    @Test("A body is kept for another attempt up to its bound")
    func replay() {
        var replay = ReplayBuffer(limit: 8)
        replay.keep(ByteBuffer(string: "1234"))
        replay.keep(ByteBuffer(string: "5678"))
        #expect(replay.isComplete)
        #expect(replay.pieces.map { String(buffer: $0) } == ["1234", "5678"])
        replay.keep(ByteBuffer(string: "9"))
        #expect(!replay.isComplete)
        #expect(replay.pieces.isEmpty)
        replay.keep(ByteBuffer(string: "10"))
        #expect(replay.pieces.isEmpty)
    }
}
