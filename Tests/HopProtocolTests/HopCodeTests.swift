import HopProtocol
import Testing
import Tunnel

struct HopCodeTests {
    @Test("The codes have the numbers and meanings of the protocol's table")
    func table() {
        let table: [(HopCode, UInt64, Int, notStarted: Bool, elsewhere: Bool)] = [
            (.noError, 0, 502, false, false),
            (.cancelled, 1, 499, false, false),
            (.deadline, 2, 504, false, false),
            (.refused, 3, 503, true, true),
            (.busy, 4, 503, true, true),
            (.notHere, 5, 503, true, true),
            (.loop, 6, 503, true, true),
            (.wrongRun, 7, 503, true, true),
            (.unknownService, 8, 503, true, false),
            (.stale, 9, 502, false, false),
            (.alreadyRan, 10, 502, false, false),
            (.originUnreachable, 16, 502, true, false),
            (.originTimeout, 17, 504, false, false),
            (.originProtocol, 18, 502, false, false),
            (.originAborted, 19, 502, false, false),
            (.protocolViolation, 32, 502, false, false),
            (.flowControl, 33, 502, false, false),
            (.finalSizeError, 34, 502, false, false),
            (.internalError, 35, 502, false, false),
            (.authFailed, 36, 502, false, false),
            (.superseded, 37, 502, false, false),
            (.idle, 38, 502, false, false),
        ]
        #expect(table.count == HopCode.allCases.count)
        for (code, raw, status, notStarted, elsewhere) in table {
            #expect(code.wireCode.rawValue == raw)
            #expect(code.status == status)
            #expect(code.isNotStarted == notStarted)
            #expect(code.mayRetryElsewhere == elsewhere)
            #expect(HopCode(ApplicationErrorCode(rawValue: raw)) == code)
            #expect(!code.mayRetryElsewhere || code.isNotStarted)
        }
    }

    @Test("An unknown code is INTERNAL and may have started")
    func unknown() {
        for raw: UInt64 in [11, 15, 20, 31, 39, .max] {
            #expect(HopCode(ApplicationErrorCode(rawValue: raw)) == .internalError)
        }
        #expect(!HopCode(ApplicationErrorCode(rawValue: 99)).isNotStarted)
    }

    @Test("Every code has a distinct name")
    func names() {
        #expect(Set(HopCode.allCases.map(\.name)).count == HopCode.allCases.count)
    }
}
