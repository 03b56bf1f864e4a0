import NIOCore
import Store
import Synchronization
import TestSupport
import Testing

@Suite("Held leases")
struct HeldLeaseTests {
    private static let timeToLive = TimeAmount.seconds(3)
    private let scratch = ScratchFolder()
    private let time = Time()

    private final class Time: Sendable {
        private let current = Mutex(NIODeadline.uptimeNanoseconds(1_000_000_000_000))
        var now: NIODeadline { current.withLock { $0 } }
        func advance(by amount: TimeAmount) { current.withLock { $0 = $0 + amount } }
    }

    private func volume() throws -> Volume {
        let files = try PosixFileSystem(path: scratch.file("v2"), creating: true)
        let volume = Volume(files: files, now: { [time] in time.now })
        try volume.prepare()
        return volume
    }

    private func candidate() throws -> LeaseCandidate {
        LeaseCandidate(volume: try volume(), name: "site", fencing: nil, timeToLive: Self.timeToLive)
    }

    private func acquire() throws -> HeldLease {
        let candidate = try candidate()
        guard case .acquire(let epoch) = try candidate.poll(now: time.now),
            let lease = try candidate.acquire(epoch)
        else { throw StoreError(.stalled, "locks/site", "the lease is not free") }
        return lease
    }

    @Test("A renewed lease is held beyond its time to live, and a competitor waits")
    func renewed() throws {
        let lease = try acquire()
        let competitor = try candidate()
        for _ in 0..<30 {
            let planned = lease.nextRenewal
            try lease.renew(now: time.now)
            #expect(lease.nextRenewal >= planned)
            guard case .wait = try competitor.poll(now: time.now) else {
                Issue.record("a competitor may acquire a lease that is renewed")
                return
            }
            time.advance(by: .seconds(1))
        }
        #expect(lease.isHeld(now: time.now))
        try lease.check()
    }

    @Test("A lease that is not renewed is lost after its time to live, and a competitor acquires it")
    func expired() throws {
        let lease = try acquire()
        let competitor = try candidate()
        _ = try competitor.poll(now: time.now)
        time.advance(by: Self.timeToLive + .seconds(1))
        #expect(!lease.isHeld(now: time.now))
        #expect(throws: StoreError.self) { try lease.renew(now: time.now) }
        var next = try competitor.poll(now: time.now)
        if case .wait(let deadline) = next {
            time.advance(by: deadline - time.now + .seconds(1))
            next = try competitor.poll(now: time.now)
        }
        #expect(next == .acquire(epoch: lease.epoch + 1))
    }
}
