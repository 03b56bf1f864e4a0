import Agent
import HopProtocol
import NIOCore
import Testing

/// Shorthands for a ledger whose `Attempt` is a number.
extension RequestLedger<Int>.Decision {
    var code: HopCode? { if case .refuse(let code) = self { code } else { nil } }
    var runs: Bool { if case .run = self { true } else { false } }
    var replaced: Int? { if case .replace(let attempt) = self { attempt } else { nil } }
}

struct RequestLedgerTests {
    let run = RunID(rawValue: 1)
    let id = RequestID(rawValue: 7)
    let start = NIODeadline.uptimeNanoseconds(1_000_000_000)

    func ledger(capacity: Int = 8) -> RequestLedger<Int> { RequestLedger(run: run, capacity: capacity) }

    @Test("A request for another run is WRONG_RUN and is not recorded")
    func wrongRun() {
        var ledger = ledger()
        let other = RunID(rawValue: 2)
        #expect(ledger.begin(id, attempt: 1, run: other, isIdempotent: false, now: start, attempt: 1).code == .wrongRun)
        #expect(ledger.count == 0)
        #expect(ledger.begin(id, attempt: 1, run: run, isIdempotent: false, now: start, attempt: 1).runs)
    }

    @Test("A known non-idempotent id is ALREADY_RAN, running or ended, regardless of its attempt")
    func alreadyRan() {
        var ledger = ledger()
        #expect(ledger.begin(id, attempt: 1, run: run, isIdempotent: false, now: start, attempt: 1).runs)
        for attempt: UInt64 in [0, 1, 2, 99] {
            let answer = ledger.begin(id, attempt: attempt, run: run, isIdempotent: false, now: start, attempt: 2)
            #expect(answer.code == .alreadyRan)
        }
        ledger.end(id, attempt: 1, isIdempotent: false, now: start)
        let later = start + .seconds(60) - .nanoseconds(1)
        #expect(ledger.begin(id, attempt: 2, run: run, isIdempotent: false, now: later, attempt: 2).code == .alreadyRan)
        // Another method does not change that.
        #expect(ledger.begin(id, attempt: 3, run: run, isIdempotent: true, now: later, attempt: 2).code == .alreadyRan)
    }

    @Test("An id is forgotten 60 s after its end, not after its beginning")
    func forgotten() {
        var ledger = ledger()
        _ = ledger.begin(id, attempt: 1, run: run, isIdempotent: false, now: start, attempt: 1)
        let hour = start + .hours(1)
        #expect(ledger.begin(id, attempt: 2, run: run, isIdempotent: false, now: hour, attempt: 2).code == .alreadyRan)
        ledger.end(id, attempt: 1, isIdempotent: false, now: hour)
        let answer = ledger.begin(id, attempt: 2, run: run, isIdempotent: false, now: hour + .seconds(60), attempt: 2)
        #expect(answer.runs)
        #expect(ledger.count == 1)
    }

    @Test("A higher attempt of an idempotent id replaces the running one; equal and lower are STALE")
    func idempotent() {
        var ledger = ledger()
        #expect(ledger.begin(id, attempt: 2, run: run, isIdempotent: true, now: start, attempt: 100).runs)
        #expect(ledger.begin(id, attempt: 1, run: run, isIdempotent: true, now: start, attempt: 0).code == .stale)
        #expect(ledger.begin(id, attempt: 2, run: run, isIdempotent: true, now: start, attempt: 0).code == .stale)
        #expect(ledger.begin(id, attempt: 3, run: run, isIdempotent: true, now: start, attempt: 101).replaced == 100)
        #expect(ledger.begin(id, attempt: 2, run: run, isIdempotent: true, now: start, attempt: 0).code == .stale)
        #expect(ledger.begin(id, attempt: 9, run: run, isIdempotent: true, now: start, attempt: 102).replaced == 101)
    }

    @Test("The end of a replaced attempt does not end the newer one")
    func replacedEnds() {
        var ledger = ledger()
        _ = ledger.begin(id, attempt: 1, run: run, isIdempotent: true, now: start, attempt: 100)
        _ = ledger.begin(id, attempt: 2, run: run, isIdempotent: true, now: start, attempt: 101)
        ledger.end(id, attempt: 1, isIdempotent: true, now: start)
        let late = start + .hours(1)
        #expect(ledger.begin(id, attempt: 3, run: run, isIdempotent: true, now: late, attempt: 102).replaced == 101)
    }

    @Test("An ended idempotent id runs again with a higher attempt and stays STALE for lower ones until forgotten")
    func idempotentEnded() {
        var ledger = ledger()
        _ = ledger.begin(id, attempt: 5, run: run, isIdempotent: true, now: start, attempt: 100)
        ledger.end(id, attempt: 5, isIdempotent: true, now: start)
        #expect(ledger.begin(id, attempt: 4, run: run, isIdempotent: true, now: start, attempt: 0).code == .stale)
        #expect(ledger.begin(id, attempt: 6, run: run, isIdempotent: true, now: start, attempt: 101).runs)
        // The expiry of the old attempt must not remove the attempt that runs now.
        let late = start + .seconds(61)
        #expect(ledger.begin(id, attempt: 6, run: run, isIdempotent: true, now: late, attempt: 0).code == .stale)
        ledger.end(id, attempt: 6, isIdempotent: true, now: late)
        let later = late + .seconds(60)
        #expect(ledger.begin(id, attempt: 1, run: run, isIdempotent: true, now: later, attempt: 102).runs)
    }

    @Test("A full table answers BUSY to new non-idempotent requests and evicts none of them")
    func full() {
        var ledger = ledger(capacity: 4)
        for raw in 0..<4 as Range<UInt128> {
            let answer = ledger.begin(
                RequestID(rawValue: raw),
                attempt: 1,
                run: run,
                isIdempotent: false,
                now: start,
                attempt: 1
            )
            #expect(answer.runs)
            if raw < 2 { ledger.end(RequestID(rawValue: raw), attempt: 1, isIdempotent: false, now: start) }
        }
        let extra = RequestID(rawValue: 99)
        #expect(ledger.begin(extra, attempt: 1, run: run, isIdempotent: false, now: start, attempt: 1).code == .busy)
        for raw in 0..<4 as Range<UInt128> {
            let again = RequestID(rawValue: raw)
            let answer = ledger.begin(again, attempt: 2, run: run, isIdempotent: false, now: start, attempt: 1)
            #expect(answer.code == .alreadyRan)
        }
        // Idempotent requests are not refused.
        #expect(ledger.begin(extra, attempt: 1, run: run, isIdempotent: true, now: start, attempt: 1).runs)
        // The two ended ids expire after a minute; the running ones stay.
        let later = start + .seconds(60)
        for raw in 100..<102 as Range<UInt128> {
            let new = RequestID(rawValue: raw)
            #expect(ledger.begin(new, attempt: 1, run: run, isIdempotent: false, now: later, attempt: 1).runs)
        }
        let over = RequestID(rawValue: 102)
        #expect(ledger.begin(over, attempt: 1, run: run, isIdempotent: false, now: later, attempt: 1).code == .busy)
    }

    @Test("Idempotent ids do not occupy the table of the others, and evict each other")
    func idempotentRoom() {
        var ledger = ledger(capacity: 4)
        for raw in 0..<100 as Range<UInt128> {
            let id = RequestID(rawValue: raw)
            #expect(ledger.begin(id, attempt: 1, run: run, isIdempotent: true, now: start, attempt: 1).runs)
            ledger.end(id, attempt: 1, isIdempotent: true, now: start)
        }
        #expect(ledger.count == 4)
        #expect(
            ledger.begin(RequestID(rawValue: 200), attempt: 1, run: run, isIdempotent: false, now: start, attempt: 1)
                .runs
        )
    }

    @Test("With every idempotent slot running, further ones run unrecorded")
    func idempotentAllRunning() {
        var ledger = ledger(capacity: 2)
        for raw in 0..<5 as Range<UInt128> {
            let id = RequestID(rawValue: raw)
            #expect(ledger.begin(id, attempt: 1, run: run, isIdempotent: true, now: start, attempt: 1).runs)
        }
        #expect(ledger.count == 2)
        ledger.end(RequestID(rawValue: 4), attempt: 1, isIdempotent: true, now: start)
        #expect(ledger.count == 2)
    }

    @Test("A request that provably did not start may be sent again")
    func unstarted() {
        var ledger = ledger()
        _ = ledger.begin(id, attempt: 1, run: run, isIdempotent: false, now: start, attempt: 1)
        ledger.endUnstarted(id, attempt: 1, isIdempotent: false)
        #expect(ledger.begin(id, attempt: 2, run: run, isIdempotent: false, now: start, attempt: 1).runs)
        // The late end of an older attempt does not remove the newer one.
        ledger.endUnstarted(id, attempt: 1, isIdempotent: false)
        #expect(ledger.begin(id, attempt: 3, run: run, isIdempotent: false, now: start, attempt: 1).code == .alreadyRan)
    }

    @Test("A large table holds its capacity, refuses the next id and drains within a few calls")
    func large() {
        let capacity = 100_000
        var ledger = ledger(capacity: capacity)
        for raw in 0..<UInt128(capacity) {
            let id = RequestID(rawValue: raw &* 0x9E37_79B9_7F4A_7C15)
            #expect(ledger.begin(id, attempt: 1, run: run, isIdempotent: false, now: start, attempt: 1).runs)
            ledger.end(id, attempt: 1, isIdempotent: false, now: start)
        }
        #expect(ledger.nonIdempotentCount == capacity)
        let extra = RequestID(rawValue: .max)
        #expect(ledger.begin(extra, attempt: 1, run: run, isIdempotent: false, now: start, attempt: 1).code == .busy)
        // One call expires a limited number of ids, and no id is refused because of that.
        let later = start + .seconds(60)
        var calls: UInt128 = 0
        while ledger.nonIdempotentCount > Int(calls) {
            calls += 1
            let new = RequestID(rawValue: .max - calls)
            #expect(ledger.begin(new, attempt: 1, run: run, isIdempotent: false, now: later, attempt: 1).runs)
        }
        #expect(calls > 1 && calls < 300)
    }

    @Test("Idempotent ids have a limit of their own")
    func idempotentLimit() {
        var ledger = RequestLedger<Int>(run: run)
        for raw in 0..<70_000 as Range<UInt128> {
            let id = RequestID(rawValue: raw)
            #expect(ledger.begin(id, attempt: 1, run: run, isIdempotent: true, now: start, attempt: 1).runs)
            ledger.end(id, attempt: 1, isIdempotent: true, now: start)
        }
        #expect(ledger.count == RequestLedgerLimits.idempotentCapacity && ledger.nonIdempotentCount == 0)
    }

    @Test("The table is empty a minute after all requests have ended")
    func drains() {
        var ledger = RequestLedger<Int>(run: run)
        var now = start
        for raw in 0..<10_000 as Range<UInt128> {
            let id = RequestID(rawValue: raw)
            let isIdempotent = raw % 2 == 0
            #expect(ledger.begin(id, attempt: 1, run: run, isIdempotent: isIdempotent, now: now, attempt: 1).runs)
            ledger.end(id, attempt: 1, isIdempotent: isIdempotent, now: now)
            now = now + .milliseconds(1)
        }
        #expect(ledger.count == 10_000)
        now = now + .seconds(60)
        // One call expires a limited number of ids.
        for _ in 0..<10 { _ = ledger.begin(id, attempt: 1, run: run, isIdempotent: true, now: now, attempt: 1) }
        #expect(ledger.count == 1)
    }
}
