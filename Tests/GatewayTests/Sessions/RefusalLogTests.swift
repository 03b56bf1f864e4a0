import Gateway
import NIOCore
import Testing

@Suite struct RefusalLogTests {
    private let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

    private func record(
        _ log: inout RefusalLog,
        _ id: String,
        _ reason: String = "wrong_secret",
        kind: String = "credential",
        isLimited: Bool = false,
        after seconds: Int64 = 0
    ) -> Int? {
        log.record(tokenID: id, reason: reason, kind: kind, isLimited: isLimited, now: start + .seconds(seconds))
    }

    @Test("A token and reason is logged once a minute, with the number of refusals since the last line")
    func minute() {
        var log = RefusalLog()
        #expect(record(&log, "a") == 1)
        for second in 1..<60 { #expect(record(&log, "a", isLimited: second > 10, after: Int64(second)) == nil) }
        #expect(record(&log, "a", "revoked", after: 59) == 1)
        #expect(record(&log, "b", after: 59) == 1)
        #expect(record(&log, "a", after: 60) == 60)
        #expect(record(&log, "a", after: 61) == nil)
    }

    @Test("A refusal above the limit of failures is never logged, but counted")
    func limited() {
        var log = RefusalLog()
        #expect(record(&log, "a", isLimited: true) == nil)
        #expect(record(&log, "a") == 1)
        #expect(record(&log, "a", isLimited: true, after: 90) == nil)
        #expect(record(&log, "a", after: 91) == 2)
    }

    @Test("Tokens beyond the capacity share one line a minute of each class of reasons")
    func full() {
        var log = RefusalLog(capacity: 10)
        for index in 0..<10 { #expect(record(&log, "\(index)", "unknown") == 1) }
        #expect(record(&log, "10", "unknown") == 1)
        for index in 11..<1_000 { #expect(record(&log, "\(index)", "unknown") == nil) }
        #expect(record(&log, "x", "not allowed", kind: "service") == 1)
        #expect(record(&log, "10", "unknown", after: 59) == nil)
        // A minute later the entries have expired, and others find a place.
        #expect(record(&log, "11", "unknown", after: 60) == 1)
    }
}
