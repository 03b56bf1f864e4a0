import ACME
import Formats
import NIOCore
import TestSupport
import Testing

@Suite("A CA that is out of order or limits the account")
struct AuthorityGateTests {
    private static let outage = ACMEFailure(.unavailable, .directory, "no answer")

    private func instant(_ seconds: Int64) -> Instant {
        Instant(uptime: .uptimeNanoseconds(UInt64(seconds + 1_000) * 1_000_000_000), wall: World.start + seconds)
    }

    @Test("An outage with 2,500 names and three replicas: one line, few writes, and orders start within a minute")
    func outage() {
        let replicas = Replicas(count: 3, names: 2_500)
        replicas.ca = { $0 < 600 ? .down : .up }
        replicas.run(until: 900)
        #expect(replicas.lines.count == 2, "\(replicas.lines)")
        guard case .closed(_, let waiting)? = replicas.lines.first?.report else {
            Issue.record("\(replicas.lines)")
            return
        }
        #expect(waiting > 2_400)
        #expect(replicas.issued.count == 2_500)
        let first = replicas.issued.values.min() ?? .max
        #expect((600...660).contains(first), "\(first)")
        // Each attempt of one name takes half a minute and is preceded by a claim.
        #expect(replicas.writes < 60, "\(replicas.writes)")
        #expect(replicas.leases < 3 * 16 + 30 + 2_500 + 600, "\(replicas.leases)")
    }

    @Test("A limit of the account is one record; one replica asks again at its time, then all names are ordered")
    func limit() {
        let replicas = Replicas(count: 3, names: 700)
        replicas.ca = { $0 < 900 ? .limited(until: 900) : .up }
        replicas.run(until: 1_000)
        let early = replicas.requests.filter { $0 < 10 }.count
        #expect(early <= 3 * 16)
        #expect(replicas.requests.filter { (10..<900).contains($0) }.isEmpty)
        #expect(
            replicas.requests.filter { $0 == 900 }.count == 1,
            "\(replicas.requests.filter { $0 >= 900 }.prefix(3))"
        )
        #expect(replicas.issued.count == 700)
        #expect(replicas.lines.count == 2 && replicas.writes <= 8, "\(replicas.lines.count) \(replicas.writes)")
    }

    @Test("A CA that comes and goes causes one line a minute at most in each replica")
    func flapping() {
        let replicas = Replicas(count: 2, names: 2_500)
        replicas.ca = { $0 % 40 < 30 ? .down : .up }
        replicas.run(until: 1_200)
        for replica in 0..<2 {
            let times = replicas.lines.filter { $0.replica == replica }.map(\.second)
            for (earlier, later) in zip(times, times.dropFirst()) { #expect(later - earlier >= 60) }
        }
    }

    @Test("A failure of one name while others succeed is the name's, and no name's own failure closes the gate")
    func ofName() {
        let gate = GateBox()
        gate.loaded(nil, version: nil, now: instant(0))
        #expect(gate.admits("a"))
        gate.succeeded(by: "b", now: instant(3))
        #expect(gate.fail(Self.outage, at: 5) == false)
        #expect(gate.fail(ACMEFailure(.caa, .order, "x"), at: 6) == false)
        let named = ACMEFailure(.rateLimited, .order, "x", identifier: "a", retry: .notBefore(.latest))
        #expect(gate.fail(named, at: 7) == false)
        #expect(gate.admits("a") && gate.hold == nil)
        // No other name has succeeded since this attempt began.
        #expect(gate.fail(Self.outage, at: 11) == true)
        #expect(!gate.admits("a") && gate.hold?.error.code == "unavailable")
    }

    @Test("Before the record is read no name is ordered, and a stored hold is respected after a restart")
    func restart() throws {
        let first = GateBox()
        #expect(!first.admits("a") && first.wait("a"))
        #expect(first.next(now: instant(0)) == .load)
        first.loaded(nil, version: nil, now: instant(0))
        #expect(first.next(now: instant(0)) == .wake(["a"]))
        let limit = ACMEFailure(.rateLimited, .order, "x", retry: .notBefore(World.start + 500))
        #expect(first.fail(limit, at: 1))
        guard case .write(let hold, replacing: nil) = first.next(now: instant(1)) else {
            Issue.record("the hold is not written")
            return
        }
        #expect(hold.notBefore == World.start + 500 && hold.pause == 499)
        #expect(try AuthorityHold(json: hold.json, place: "hold") == hold)

        let second = GateBox()
        #expect(second.wait("b"))
        second.loaded(hold, version: 1, now: instant(100))
        #expect(second.next(now: instant(100)) == .wait(until: instant(500).uptime))
        guard case .write(let claim, replacing: 1) = second.next(now: instant(500)) else {
            Issue.record("no claim")
            return
        }
        #expect(claim.since == hold.since && claim.notBefore == World.start + 560)
        second.conflicted()
        #expect(second.next(now: instant(500)) == .load)
        second.loaded(nil, version: nil, now: instant(501))
        #expect(second.admits("b") && second.next(now: instant(501)) == .wake(["b"]))
    }

    @Test("The longest pause is an hour, and a replica whose clock is behind does not wait longer")
    func clocks() {
        let gate = GateBox()
        gate.loaded(nil, version: nil, now: instant(0))
        let limit = ACMEFailure(.rateLimited, .order, "x", retry: .notBefore(World.start + 100_000))
        #expect(gate.fail(limit, at: 0) == true)
        #expect(gate.hold?.pause == 3_600)
        let behind = GateBox()
        #expect(behind.wait("a"))
        let late = Instant(uptime: instant(0).uptime, wall: World.start - 3_600)
        behind.loaded(gate.hold, version: 1, now: late)
        #expect(behind.next(now: late) == .wait(until: instant(3_600).uptime))
    }

    @Test("A rejected account waits for an hour, for the operator's request, or for other settings")
    func rejectedAccount() {
        let gate = GateBox(settings: "old")
        gate.loaded(nil, version: nil, now: instant(0))
        #expect(gate.fail(ACMEFailure(.externalAccountRequired, .account, "x"), at: 1) == true)
        guard case .write(let hold, replacing: nil) = gate.next(now: instant(1)) else {
            Issue.record("the hold is not written")
            return
        }
        #expect(hold.pause == 3_600 && hold.settings == "old")
        gate.written(version: 1, now: instant(1))
        for key in ["a", "b", "c"] { #expect(gate.wait(key)) }
        #expect(gate.next(now: instant(1)) == .wait(until: instant(3).uptime))
        #expect(!gate.prioritize("d", now: instant(2)) && gate.prioritize("b", now: instant(2)))
        guard case .write = gate.next(now: instant(2)) else {
            Issue.record("the attempt is not claimed")
            return
        }
        gate.written(version: 2, now: instant(2))
        #expect(gate.next(now: instant(2)) == .wake(["b"]))
        #expect(gate.admits("b") && !gate.admits("a"))

        let changed = GateBox(settings: "new")
        #expect(changed.wait("a"))
        changed.loaded(hold, version: 1, now: instant(5))
        #expect(changed.admits("a"))
        #expect(changed.next(now: instant(5)) == .remove(version: 1))
    }

    @Test("A rate limit whose text mentions the name, its domain or its set of names is the name's")
    func attribution() throws {
        for (detail, name) in [
            ("too many certificates already issued for: a.shop.example", "a.shop.example"),
            (#"too many certificates (50) already issued for "shop.example" in the last 168h0m0s"#, "a.shop.example"),
            ("too many certificates (5) already issued for this exact set of identifiers", "a.shop.example"),
            ("too many new orders (300) from this account in the last 3h0m0s: see https://ca.example/limits", nil),
        ] {
            let world = World(["a.shop.example"])
            world.ca.tamper = { [ca = world.ca] request, response in
                if request.url.text.hasSuffix("/order-plz") { response = ca.problem(429, "rateLimited", detail) }
            }
            let failure = try world.failure()
            #expect(failure.identifier == name && failure.concernsAuthority == (name == nil), "\(detail)")
        }
    }
}

/// A gate whose methods can be called in expectations.
private final class GateBox {
    private var gate: AuthorityGate

    init(settings: String = "") { gate = AuthorityGate(settings: settings) }

    var hold: AuthorityHold? { gate.hold }
    func admits(_ key: String) -> Bool { gate.admits(key) }
    func wait(_ key: String) -> Bool { gate.wait(key) }
    func succeeded(by key: String, now: Instant) { gate.succeeded(by: key, now: now) }
    func loaded(_ hold: AuthorityHold?, version: UInt64?, now: Instant) {
        gate.loaded(hold, version: version, now: now)
    }
    func conflicted() { gate.conflicted() }
    func prioritize(_ key: String, now: Instant) -> Bool { gate.prioritize(key, now: now) }
    func written(version: UInt64, now: Instant) { gate.written(version: version, now: now, random: 0) }
    func next(now: Instant) -> AuthorityGate.Action { gate.next(now: now) }

    /// Records the failure of an attempt that lasted three seconds.
    func fail(_ failure: ACMEFailure, by key: String = "a", at second: Int64) -> Bool {
        let now = Instant(
            uptime: .uptimeNanoseconds(UInt64(second + 1_000) * 1_000_000_000),
            wall: World.start + second
        )
        return gate.failed(failure, by: key, authority: "ca", since: now.uptime - .seconds(3), now: now, random: 0)
    }
}

/// Replicas with names to order, a store with one record, and a CA, in virtual time.
private final class Replicas {
    enum Condition {
        case up, down
        case limited(until: Int64)
    }

    struct Line {
        let replica: Int
        let second: Int64
        let report: AuthorityGate.Report
    }

    private struct Attempt {
        let key: String
        let end: Int64
        let failure: ACMEFailure?
    }

    private struct Replica {
        var gate = AuthorityGate()
        var queue: [String]
        var attempts: [Attempt] = []
        /// The time at which the watch reports a change.
        var change: Int64?
    }

    /// The condition of the CA by second.
    var ca: (Int64) -> Condition = { _ in .up }
    private(set) var issued: [String: Int64] = [:]
    private(set) var requests: [Int64] = []
    private(set) var lines: [Line] = []
    private(set) var writes = 0
    private(set) var leases = 0
    private var replicas: [Replica]
    private var leased: Set<String> = []
    private var record: AuthorityHold?
    private var version: UInt64 = 0
    private var generator = SeededGenerator(seed: 7)

    init(count: Int, names: Int) {
        let keys = (0..<names).map { "\($0).test" }
        replicas = (0..<count).map { _ in Replica(queue: keys) }
        for index in replicas.indices { replicas[index].queue.shuffle(using: &generator) }
    }

    func run(until end: Int64) {
        for second in 0..<end {
            for index in replicas.indices { step(index, second) }
        }
    }

    private func instant(_ second: Int64) -> Instant {
        Instant(uptime: .uptimeNanoseconds(UInt64(second + 1) * 1_000_000_000), wall: World.start + second)
    }

    private func step(_ index: Int, _ second: Int64) {
        let now = instant(second)
        if let change = replicas[index].change, change <= second {
            replicas[index].change = nil
            replicas[index].gate.changed()
        }
        for attempt in replicas[index].attempts where attempt.end <= second {
            leased.remove(attempt.key)
            if let failure = attempt.failure {
                let random = generator.next()
                let isOfAuthority = replicas[index].gate.failed(
                    failure,
                    by: attempt.key,
                    authority: "ca",
                    since: now.uptime - .seconds(32),
                    now: now,
                    random: random
                )
                #expect(isOfAuthority)
                replicas[index].queue.append(attempt.key)
            } else {
                replicas[index].gate.succeeded(by: attempt.key, now: now)
                issued[attempt.key] = second
            }
        }
        replicas[index].attempts.removeAll { $0.end <= second }
        start(index, second)
        drive(index, now, second)
        start(index, second)
    }

    private func start(_ index: Int, _ second: Int64) {
        var again: [String] = []
        while replicas[index].attempts.count < 16, let key = replicas[index].queue.popLast() {
            if issued[key] != nil {
                replicas[index].gate.leave(key, now: instant(second))
            } else if replicas[index].gate.wait(key) {
                continue
            } else if leased.contains(key) {
                again.append(key)
            } else {
                leases += 1
                leased.insert(key)
                replicas[index].attempts.append(attempt(key, second))
            }
        }
        replicas[index].queue += again
    }

    /// An attempt that repeats its request as ``ACMERequestCycle`` does.
    private func attempt(_ key: String, _ second: Int64) -> Attempt {
        for pause in [0, 1, 3, 7, 15, 31] as [Int64] {
            requests.append(second + pause)
            switch ca(second + pause) {
            case .up: return Attempt(key: key, end: second + pause + 1, failure: nil)
            case .limited(let until):
                let failure = ACMEFailure(.rateLimited, .order, "x", retry: .notBefore(World.start + until))
                return Attempt(key: key, end: second + pause + 1, failure: failure)
            case .down: continue
            }
        }
        return Attempt(key: key, end: second + 32, failure: ACMEFailure(.unavailable, .directory, "no answer"))
    }

    private func drive(_ index: Int, _ now: Instant, _ second: Int64) {
        while true {
            switch replicas[index].gate.next(now: now) {
            case .wait: return
            case .wake(let keys): replicas[index].queue += keys
            case .report(let report): lines.append(Line(replica: index, second: second, report: report))
            case .load: replicas[index].gate.loaded(record, version: record == nil ? nil : version, now: now)
            case .write(let hold, let expected):
                if store(hold, expected, index, second) {
                    replicas[index].gate.written(version: version, now: now, random: generator.next())
                }
            case .remove(let expected):
                if store(nil, expected, index, second) { replicas[index].gate.removed() }
            }
        }
    }

    private func store(_ hold: AuthorityHold?, _ expected: UInt64?, _ index: Int, _ second: Int64) -> Bool {
        guard (record == nil) == (expected == nil), expected ?? version == version else {
            replicas[index].gate.conflicted()
            return false
        }
        record = hold
        version += 1
        writes += 1
        for other in replicas.indices where other != index { replicas[other].change = second + 2 }
        return true
    }
}
