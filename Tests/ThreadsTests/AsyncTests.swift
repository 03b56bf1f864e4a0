import TestSupport
import Testing
import Threads

@Suite("Semaphore and signal of tasks")
struct AsyncTests {
    @Test("Tasks acquire permits in the order of their arrival")
    func fairness() async throws {
        let semaphore = AsyncSemaphore(1)
        let isReleased = Observed(false)
        let order = Observed<[Int]>([])
        try await withThrowingTaskGroup(of: Void.self) { group in
            let isHeld = Observed(false)
            group.addTask {
                await semaphore.withPermit {
                    isHeld.update { $0 = true }
                    _ = try? await isReleased.wait { $0 }
                }
            }
            try await isHeld.wait { $0 }
            for number in 0..<20 {
                group.addTask { await semaphore.withPermit { order.update { $0.append(number) } } }
                try await eventually { semaphore.waitingCount == number + 1 }
            }
            #expect(order.value.isEmpty)
            isReleased.update { $0 = true }
        }
        #expect(order.value == Array(0..<20))
    }

    @Test("No more tasks hold a permit than there are permits")
    func bound() async {
        let semaphore = AsyncSemaphore(3)
        let held = Observed((now: 0, most: 0))
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<200 {
                group.addTask {
                    await semaphore.withPermit {
                        held.update { $0 = ($0.now + 1, max($0.most, $0.now + 1)) }
                        await Task.yield()
                        held.update { $0.now -= 1 }
                    }
                }
            }
        }
        #expect(held.value.now == 0 && (1...3).contains(held.value.most))
    }

    @Test("A cancelled task leaves the queue without a permit, and the next one gets it")
    func cancellation() async throws {
        let semaphore = AsyncSemaphore(1)
        let isHeld = Observed(false)
        let isReleased = Observed(false)
        let holder = Task {
            await semaphore.withPermit {
                isHeld.update { $0 = true }
                _ = try? await isReleased.wait { $0 }
            }
        }
        try await isHeld.wait { $0 }
        let cancelled = Task { await semaphore.withPermit { true } }
        let next = Task { await semaphore.withPermit { true } }
        cancelled.cancel()
        #expect(await cancelled.value == nil)
        isReleased.update { $0 = true }
        #expect(await next.value == true)
        await holder.value
        #expect(await semaphore.withPermit { 7 } == 7)
        let early = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return await semaphore.withPermit { 7 }
        }
        #expect(await early.value == nil)
        #expect(await semaphore.withPermit { 8 } == 8)
    }

    @Test("Signals that no task waits for are coalesced into one")
    func coalescing() async {
        let signal = AsyncSignal()
        for _ in 0..<5 { signal.send() }
        #expect(await signal.wait())
        let second = Task { await signal.wait() }
        second.cancel()
        #expect(await second.value == false)
    }

    @Test("A signal that was cleared wakes no task")
    func cleared() async {
        let signal = AsyncSignal()
        signal.send()
        signal.clear()
        let waiting = Task { await signal.wait() }
        waiting.cancel()
        #expect(await !waiting.value)
    }

    @Test("A signal wakes the waiting task; a cancelled one takes a pending signal first")
    func waking() async throws {
        let signal = AsyncSignal()
        let count = Observed(0)
        let task = Task {
            while await signal.wait() { count.update { $0 += 1 } }
        }
        for round in 1...100 {
            signal.send()
            try await count.wait { $0 == round }
        }
        task.cancel()
        await task.value
        signal.send()
        let late = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return [await signal.wait(), await signal.wait()]
        }
        #expect(await late.value == [true, false])
    }

    @Test("A wait with a limit ends at it and leaves nothing behind")
    func limit() async {
        let signal = AsyncSignal()
        await signal.wait(atMost: .milliseconds(1))
        await signal.wait(atMost: .zero)
        signal.send()
        await signal.wait(atMost: .seconds(600))
        let task = Task { await signal.wait(atMost: .seconds(600)) }
        task.cancel()
        await task.value
    }
}
