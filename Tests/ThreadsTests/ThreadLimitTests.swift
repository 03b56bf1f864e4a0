import Synchronization
import TestSupport
import Testing
import Threads

@Suite("A system without threads")
struct ThreadLimitTests {
    /// Starts threads up to a limit that the test changes.
    private final class Supply: Sendable {
        let limit: Mutex<Int>
        let started = Observed(0)

        init(_ limit: Int) {
            self.limit = Mutex(limit)
        }

        var starter: ThreadStarter {
            { name, body in
                let isAllowed = self.limit.withLock { limit in
                    defer { limit = max(0, limit - 1) }
                    return limit > 0
                }
                guard isAllowed, startThread(name, body) else { return false }
                self.started.update { $0 += 1 }
                return true
            }
        }

        func add(_ count: Int) { limit.withLock { $0 += count } }
    }

    @Test("A queue without a thread refuses jobs, and performs them when there is one")
    func queue() async throws {
        let supply = Supply(0)
        let queue = BlockingWorkQueue(name: "test", usual: 2, limit: 3, queueLimit: 10, starter: supply.starter)
        let done = Observed<[Int]>([])
        let isRefused = !queue.submit { done.update { $0.append(0) } }
        #expect(isRefused && queue.threadCount == 0)
        supply.add(1)
        let isAccepted = queue.submit { done.update { $0.append(1) } }
        #expect(isAccepted)
        try await done.wait { $0 == [1] }
        queue.close()
        try await eventually { queue.threadCount == 0 }
    }

    @Test("A queue with one thread keeps the jobs for which no other can be started, and grows later")
    func growth() async throws {
        let supply = Supply(1)
        let queue = BlockingWorkQueue(name: "test", usual: 2, limit: 3, queueLimit: 10, starter: supply.starter)
        let gate = Gate()
        let blocked = Observed(0)
        for _ in 0..<3 {
            let isAccepted = queue.submit {
                blocked.update { $0 += 1 }
                gate.pass()
            }
            #expect(isAccepted)
        }
        try await blocked.wait { $0 == 1 }
        queue.growIfStuck(uptimeNanoseconds: .max)
        #expect(queue.threadCount == 1)
        supply.add(1)
        queue.growIfStuck(uptimeNanoseconds: .max)
        try await blocked.wait { $0 == 2 }
        gate.open()
        try await blocked.wait { $0 == 3 }
        queue.close()
        try await eventually { queue.threadCount == 0 }
    }

    @Test("Timers are called once there is a thread")
    func timers() async throws {
        let supply = Supply(0)
        let timers = TimerThread(name: "test", starter: supply.starter)
        let fired = Observed<[Int]>([])
        #expect(!timers.start())
        timers.schedule(uptimeNanoseconds: 0) { fired.update { $0.append(1) } }
        supply.add(1)
        timers.schedule(uptimeNanoseconds: 1) { fired.update { $0.append(2) } }
        try await fired.wait { $0 == [1, 2] }
        timers.close()
        #expect(timers.start() && supply.started.value == 1)
    }

    @Test("A polling thread is started by a later attempt, and only once")
    func polling() async throws {
        let supply = Supply(0)
        let runs = Observed(0)
        let thread = PollingThread(name: "test", interval: .seconds(600), starter: supply.starter) {
            runs.update { $0 += 1 }
        }
        #expect(!thread.start())
        supply.add(2)
        #expect(thread.start() && thread.start())
        try await runs.wait { $0 == 1 }
        #expect(supply.started.value == 1)
        thread.stop()
    }

    @Test("A file that hangs costs one thread, and its last value stays")
    func hangingFile() async throws {
        struct Failure: Error, Equatable {
            let number: Int
        }
        let supply = Supply(10)
        let gate = Gate()
        let reads = Observed(0)
        let problems = Observed<[Failure?]>([])
        let results: [Result<String, Failure>] = [
            .success("first"), .failure(Failure(number: 1)), .failure(Failure(number: 1)), .failure(Failure(number: 2)),
        ]
        let file = PolledValue<String, Failure>(
            "initial",
            name: "test",
            interval: .nanoseconds(1),
            starter: supply.starter,
            onChange: { problem in problems.update { $0.append(problem) } }
        ) { () throws(Failure) in
            let number = reads.value
            reads.update { $0 += 1 }
            guard number < results.count else {
                gate.pass()
                return "last"
            }
            return try results[number].get()
        }
        #expect(file.value == "initial")
        for _ in 0..<100 { #expect(file.start()) }
        try await reads.wait { $0 == results.count + 1 }
        #expect(file.value == "first" && problems.value == [Failure(number: 1), Failure(number: 2)])
        for _ in 0..<100 { #expect(file.start()) }
        #expect(supply.started.value == 1)
        gate.open()
        try await eventually { file.value == "last" }
        #expect(problems.value == [Failure(number: 1), Failure(number: 2), nil] && file.problem == nil)
        file.stop()
    }

    @Test("A limit is recognised before threads are needed, and the trial leaves none behind", arguments: [0, 1, 7, 8])
    func trial(_ available: Int) async throws {
        let supply = Supply(available)
        #expect(ThreadLimit.allows(8, start: supply.starter) == (available == 8))
        #expect(supply.started.value == available)
    }
}
