import Foundation
import TestSupport

/// Virtual time for threads of blocking code. One thread runs at a time; a thread that passes time hands over to the
/// thread that is due next, so that a seed determines every interleaving.
final class SimulatedScheduler: @unchecked Sendable {
    private final class Worker: @unchecked Sendable {
        let turn = DispatchSemaphore(value: 0)
        var due: UInt64
        var order: UInt64

        init(due: UInt64, order: UInt64) {
            self.due = due
            self.order = order
        }
    }

    // Confined to the thread whose turn it is.
    private(set) var now: UInt64 = 1_000_000_000_000
    private(set) var steps = 0
    var random: SeededGenerator
    private var workers: [Worker] = []
    private var current: Worker?
    private let finished = DispatchSemaphore(value: 0)

    init(seed: UInt64) {
        random = SeededGenerator(seed: seed)
    }

    /// Starts a thread whose body begins when it is the thread's turn.
    func spawn(_ body: @escaping @Sendable () -> Void) {
        let worker = Worker(due: now, order: random.next())
        workers.append(worker)
        let thread = Thread { [self] in
            worker.turn.wait()
            body()
            workers.removeAll { $0 === worker }
            if let next = next() { resume(next) } else { finished.signal() }
        }
        thread.stackSize = 1 << 20
        thread.start()
    }

    /// Runs the spawned threads until all of them have returned.
    func run() {
        guard let first = next() else { return }
        resume(first)
        finished.wait()
    }

    /// Suspends the calling thread until the given time has passed.
    func pass(_ nanoseconds: UInt64) {
        guard let me = current else { preconditionFailure("only spawned threads pass time") }
        steps += 1
        me.due = now + nanoseconds
        me.order = random.next()
        guard let next = next(), next !== me else {
            now = me.due
            return
        }
        resume(next)
        me.turn.wait()
    }

    private func next() -> Worker? {
        workers.min { ($0.due, $0.order) < ($1.due, $1.order) }
    }

    private func resume(_ worker: Worker) {
        now = max(now, worker.due)
        current = worker
        worker.turn.signal()
    }
}
