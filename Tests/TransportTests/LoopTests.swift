import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing
import Transport

@Suite("Deadlines and mailboxes of a loop")
struct LoopTests {
    @Test("The heap yields deadlines in order under random moves and removals", arguments: 0..<20)
    func randomHeap(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var heap = DeadlineHeap()
        let nodes = (0..<100).map { _ in DeadlineNode() }
        var expected: [Int: Int] = [:]
        for _ in 0..<3000 {
            let index = Int(random.next() % 100)
            switch random.next() % 5 {
            case 0:
                heap.remove(nodes[index])
                expected[index] = nil
            case 1:
                let now = Int(random.next() % 500)
                let earliest = expected.values.min()
                if let node = heap.popDue(now: .uptimeNanoseconds(UInt64(now))) {
                    let popped = nodes.firstIndex { $0 === node }!
                    #expect(expected[popped] == earliest)
                    expected[popped] = nil
                } else {
                    #expect(earliest == nil || earliest! > now)
                }
            default:
                let deadline = Int(random.next() % 1000)
                heap.set(nodes[index], at: .uptimeNanoseconds(UInt64(deadline)))
                expected[index] = deadline
            }
            #expect(heap.count == expected.count)
            #expect(heap.earliest == expected.values.min().map { .uptimeNanoseconds(UInt64($0)) })
        }
    }

    @Test("A deadline that keeps moving later needs no new callback, an earlier one does")
    func wakeUps() {
        var stack = WakeUpStack()
        let at = { NIODeadline.uptimeNanoseconds($0) }
        let answers = [
            stack.needsCallback(at: at(300)), stack.needsCallback(at: at(400)), stack.needsCallback(at: at(300)),
            stack.needsCallback(at: at(100)), stack.needsCallback(at: at(200)),
        ]
        #expect(answers == [true, false, false, true, false])
        #expect(stack.count == 2)
        stack.callbackArrived(now: at(100))
        #expect(stack.count == 1)
        let laterIsCovered = !stack.needsCallback(at: at(500))
        #expect(laterIsCovered, "the callback at 300 comes first and arms the next")
        stack.callbackArrived(now: at(350))
        #expect(stack.count == 0)
    }

    @Test("Batches arrive in order, with one wake-up for all that are not drained yet")
    func mailbox() {
        let mailbox = LoopMailbox<Int>()
        var batch = [1, 2]
        let first = mailbox.publish(&batch)
        #expect(first && batch.isEmpty)
        batch = [3]
        let second = mailbox.publish(&batch)
        #expect(!second)
        var taken: [Int] = []
        mailbox.drain(into: &taken)
        #expect(taken == [1, 2, 3])
        batch = [4]
        let third = mailbox.publish(&batch)
        #expect(third)
    }

    @Test("A mailbox between two threads loses and reorders nothing")
    func mailboxBetweenThreads() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
        let (source, target) = (group.next(), group.next())
        let mailbox = LoopMailbox<Int>()
        let received = Observed<[Int]>([])
        let wakeUps = Mutex(0)
        source.execute {
            var random = SeededGenerator(seed: 7)
            var next = 0
            while next < 100_000 {
                var batch = Array(next..<min(100_000, next + Int(random.next() % 50) + 1))
                next += batch.count
                guard mailbox.publish(&batch) else { continue }
                wakeUps.withLock { $0 += 1 }
                target.execute {
                    var taken: [Int] = []
                    mailbox.drain(into: &taken)
                    received.update { $0 += taken }
                }
            }
        }
        let all = try await received.wait("all") { $0.count == 100_000 }
        #expect(all == Array(0..<100_000))
        #expect(wakeUps.withLock { $0 } >= 1)
        try await group.shutdownGracefully()
    }
}
