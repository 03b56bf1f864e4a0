import Gateway
import HopProtocol
import Testing
import Transport
import Tunnel

@Suite("Decisions at the end of a stream")
struct FailureVerdictTests {
    @Test("Every code leads to its own status", arguments: HopCode.allCases)
    func status(code: HopCode) {
        // A stream that was reset before its head is never a success, and a client that left is never told.
        let verdict = RetryDecision(code: code)
        let expected =
            switch code {
            case .cancelled: 502
            default: code.status
            }
        #expect(verdict.error.status == expected)
    }

    @Test(
        "Only a request that provably did not start is tried again regardless of its method",
        arguments: HopCode.allCases
    )
    func retry(code: HopCode) {
        #expect((RetryDecision(code: code).retry == .always) == code.mayRetryElsewhere)
    }

    @Test("503 comes with Retry-After, everything else without")
    func retryAfter() {
        for refusal in ProxyError.allCases {
            #expect((refusal.retryAfter != nil) == (refusal.status == 503), "\(refusal)")
        }
    }

    @Test("A lost session is a retry for all before the first byte, for idempotent requests after it")
    func session() {
        #expect(RetryDecision(.init(reason: .sessionEnded, anyByteSent: false)).retry == .always)
        #expect(RetryDecision(.init(reason: .sessionEnded, anyByteSent: true)).retry == .ifIdempotent)
        #expect(RetryDecision(.init(reason: .refused, anyByteSent: false)).retry == .always)
        #expect(
            RetryDecision(.init(reason: .reset(code: ApplicationErrorCode(rawValue: 9_999)), anyByteSent: true)).retry
                == .never
        )
    }
}
