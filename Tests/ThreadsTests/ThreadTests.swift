import Glibc
import TestSupport
import Testing
import Threads

@Suite("Threads")
struct ThreadTests {
    private enum Failure: Error, Equatable {
        case timeout
        case dropped
        case refused
        case body
    }

    @Test("A thread has its name, and no signal but faults reaches it")
    func start() async throws {
        let found = Observed<(name: String, mask: sigset_t)?>(nil)
        let isStarted = startThread("test-thread") {
            var mask = sigset_t()
            pthread_sigmask(SIG_SETMASK, nil, &mask)
            var name = [UInt8](repeating: 0, count: 32)
            let file = open("/proc/thread-self/comm", O_RDONLY | O_CLOEXEC)
            let count = max(0, read(file, &name, name.count))
            Glibc.close(file)
            let result = (name: String(decoding: name[..<count], as: UTF8.self), mask: mask)
            found.update { [result] in $0 = result }
        }
        #expect(isStarted)
        try await found.wait { $0 != nil }
        guard let (name, blocked) = found.value else { return }
        var mask = blocked
        #expect(name == "test-thread\n")
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGCHLD, SIGUSR1] { #expect(sigismember(&mask, signal) == 1) }
        for fault in [SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGABRT] { #expect(sigismember(&mask, fault) == 0) }
    }

    @Test("The queue performs jobs in order and refuses those beyond its bound")
    func queue() async throws {
        let queue = BlockingWorkQueue(name: "test", usual: 1, limit: 1, queueLimit: 3)
        let gate = Gate()
        let done = Observed<[Int]>([])
        let isBlocked = Observed(false)
        let first = queue.submit {
            isBlocked.update { $0 = true }
            gate.pass()
        }
        #expect(first)
        try await isBlocked.wait { $0 }
        for number in 0..<3 {
            let isAccepted = queue.submit { done.update { $0.append(number) } }
            #expect(isAccepted)
        }
        let isAccepted = queue.submit {}
        #expect(!isAccepted && queue.threadCount == 1)
        queue.growIfStuck(uptimeNanoseconds: .max)
        #expect(queue.threadCount == 1)
        gate.open()
        try await done.wait { $0 == [0, 1, 2] }
        queue.close()
        try await eventually { queue.threadCount == 0 }
    }

    @Test("The queue adds threads while all of them hang, up to its limit, and ends them afterwards")
    func growth() async throws {
        let queue = BlockingWorkQueue(name: "test", usual: 1, limit: 2, queueLimit: 10)
        let gate = Gate()
        let blocked = Observed(0)
        let hang: @Sendable () -> Void = {
            blocked.update { $0 += 1 }
            gate.pass()
        }
        for _ in 0..<3 {
            let isAccepted = queue.submit(hang)
            #expect(isAccepted)
        }
        try await blocked.wait { $0 == 1 }
        queue.growIfStuck(uptimeNanoseconds: uptimeNanoseconds())
        #expect(queue.threadCount == 1)
        queue.growIfStuck(uptimeNanoseconds: .max)
        try await blocked.wait { $0 == 2 }
        queue.growIfStuck(uptimeNanoseconds: .max)
        #expect(queue.threadCount == 2)
        gate.open()
        try await blocked.wait { $0 == 3 }
        try await eventually { queue.threadCount == 1 }
        queue.close()
        try await eventually { queue.threadCount == 0 }
    }

    @Test("The first thread that is added adds the others, if all jobs have waited for too long")
    func immediateGrowth() async throws {
        let queue = BlockingWorkQueue(name: "test", usual: 1, limit: 4, queueLimit: 10, patience: .zero)
        let gate = Gate()
        let blocked = Observed(0)
        for _ in 0..<6 {
            let isAccepted = queue.submit {
                blocked.update { $0 += 1 }
                gate.pass()
            }
            #expect(isAccepted)
        }
        queue.growIfStuck(uptimeNanoseconds: .max)
        try await blocked.wait { $0 == 4 }
        #expect(queue.threadCount == 4)
        gate.open()
        try await blocked.wait { $0 == 6 }
        try await eventually { queue.threadCount == 1 }
        queue.close()
    }

    @Test("Closing the queue drops waiting jobs and refuses new ones")
    func close() async throws {
        let queue = BlockingWorkQueue(name: "test", usual: 1, limit: 1, queueLimit: 10)
        let gate = Gate()
        let isBlocked = Observed(false)
        let ran = Observed(false)
        _ = queue.submit {
            isBlocked.update { $0 = true }
            gate.pass()
        }
        try await isBlocked.wait { $0 }
        _ = queue.submit { ran.update { $0 = true } }
        queue.close()
        let isAccepted = queue.submit {}
        #expect(!isAccepted)
        gate.open()
        try await eventually { queue.threadCount == 0 }
        #expect(!ran.value)
    }

    @Test("Timers fire in the order of their times, unless they are cancelled")
    func timers() async throws {
        let timers = TimerThread(name: "test-timer")
        let fired = Observed<[Int]>([])
        let gate = Gate()
        let now = uptimeNanoseconds()
        // Holds the thread back until all timers are scheduled and due.
        timers.schedule(uptimeNanoseconds: 0) { gate.pass() }
        timers.schedule(uptimeNanoseconds: now + 2) { fired.update { $0.append(2) } }
        let cancelled = timers.schedule(uptimeNanoseconds: now + 1) { fired.update { $0.append(1) } }
        timers.schedule(uptimeNanoseconds: now) { fired.update { $0.append(0) } }
        timers.schedule(uptimeNanoseconds: .max) { fired.update { $0.append(3) } }
        timers.cancel(cancelled)
        gate.open()
        try await fired.wait { $0 == [0, 2] }
        timers.close()
        timers.schedule(uptimeNanoseconds: 0) { fired.update { $0.append(4) } }
        #expect(fired.value == [0, 2])
    }

    @Test("A polling thread runs at once, after each interval and when it is woken, until it is released")
    func polling() async throws {
        let runs = Observed(0)
        var thread: PollingThread? = PollingThread(name: "test", interval: .seconds(600)) {
            runs.update { $0 += 1 }
        }
        #expect(thread?.start() == true && thread?.start() == true)
        try await runs.wait { $0 == 1 }
        thread?.wake()
        try await runs.wait { $0 == 2 }
        let frequent = PollingThread(name: "test", interval: .milliseconds(1)) { runs.update { $0 += 1 } }
        #expect(frequent.start())
        try await runs.wait { $0 > 10 }
        frequent.stop()
        thread = nil
        withExtendedLifetime(frequent) {}
    }

    @Test("A call is resumed by the first result, or by the release of its last reference")
    func pendingCall() async {
        let first: Result<Int, Failure> = await withCheckedContinuation { continuation in
            let call = PendingCall<Int, Failure>(continuation, dropped: .dropped)
            #expect(call.isWaiting && call.setTimer(7))
            let timer = call.resume(.success(1))
            #expect(timer == 7 && !call.isWaiting && !call.setTimer(8))
            call.resume(.failure(.timeout))
        }
        #expect(first == .success(1))
        let second: Result<Int, Failure> = await withCheckedContinuation {
            _ = PendingCall<Int, Failure>($0, dropped: .dropped)
        }
        #expect(second == .failure(.dropped))
    }

    @Test("Blocking work returns its result or error, and is abandoned at the deadline")
    func blockingWork() async throws {
        let limit = Duration.seconds(600)
        func perform<Value: Sendable>(
            _ limit: Duration,
            starter: ThreadStarter = startThread,
            _ body: @escaping @Sendable () throws(Failure) -> Value
        ) async throws(Failure) -> Value {
            try await withBlockingThread(
                "test",
                limit: limit,
                timeout: .timeout,
                refused: .refused,
                starter: starter,
                body
            )
        }
        let value = try await perform(limit) { () throws(Failure) -> Int in 7 }
        #expect(value == 7)
        let gate = Gate()
        let fails: @Sendable () throws(Failure) -> Void = { () throws(Failure) in throw .body }
        let hangs: @Sendable () throws(Failure) -> Void = { () throws(Failure) in gate.pass() }
        await #expect(throws: Failure.body) { try await perform(limit, fails) }
        await #expect(throws: Failure.timeout) { try await perform(.milliseconds(1), hangs) }
        await #expect(throws: Failure.refused) { try await perform(limit, starter: { _, _ in false }, hangs) }
        gate.open()
    }

    @Test("Durations become nanoseconds without a trap")
    func durations() {
        #expect(Duration.milliseconds(1_500).clampedNanoseconds == 1_500_000_000)
        #expect(Duration.milliseconds(-1).clampedNanoseconds == 0)
        #expect(Duration.seconds(Int64.max).clampedNanoseconds == .max)
    }
}
