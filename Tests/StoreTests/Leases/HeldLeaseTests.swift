import Foundation
import NIOCore
import Store
import TestSupport
import Testing

@Suite("Held leases")
struct HeldLeaseTests {
    private static let timeToLive = TimeAmount.seconds(3)
    private let scratch = ScratchFolder()
    private let time = TestClock()

    private func volume() throws -> Volume { try scratch.volume(now: time.reading) }

    private func candidate(_ timeToLive: TimeAmount = timeToLive, name: String = "waiting") throws -> LeaseCandidate {
        var options = LeaseOptions(guards: ["certs/a", "certs/none"])
        options.timeToLive = timeToLive
        return LeaseCandidate(volume: try volume(), lease: "site", options: options, name: name)
    }

    private func acquire(_ timeToLive: TimeAmount = timeToLive) throws -> HeldLease {
        let candidate = try candidate(timeToLive, name: "gateway-2 (process 7)")
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
            time.pass(.seconds(1))
        }
        #expect(lease.isHeld(now: time.now))
        try lease.check()
    }

    /// Deletes the folder of a lease when an epoch's file is opened, as its holder may between two calls.
    private struct DeletedFolder: InterceptedFileSystem {
        let files: any FileSystem

        func intercept(_ call: FileFault.Call, _ path: String, _ access: FileAccess?) throws(FileFault) {
            guard call == .open, path.hasPrefix("locks/site/") else { return }
            try? files.unlink(path)
            try? files.removeFolder("locks/site")
        }
    }

    @Test("A process that waits for a lease whose folder is deleted while it reads acquires the lease")
    func deletedFolder() throws {
        _ = try acquire()
        var options = LeaseOptions(guards: ["certs/a"])
        options.timeToLive = Self.timeToLive
        let files = DeletedFolder(files: try scratch.posixFiles())
        let competitor = LeaseCandidate(
            volume: Volume(files: files, now: time.reading),
            lease: "site",
            options: options,
            name: "waiting"
        )
        #expect(try competitor.poll(now: time.now) == .wait(until: time.now, holder: nil))
        guard case .acquire = try competitor.poll(now: time.now) else {
            Issue.record("the lease is not free")
            return
        }
    }

    @Test("A process that waits for a lease of a long time to live acquires it a second after its release")
    func releasedSoon() throws {
        let lease = try acquire(.seconds(60))
        let competitor = try candidate(.seconds(60))
        for _ in 0..<5 {
            guard case .wait(let until, _) = try competitor.poll(now: time.now) else {
                Issue.record("a competitor may acquire a lease that is held")
                return
            }
            #expect(until - time.now <= .seconds(1))
            time.pass(.seconds(1))
        }
        try lease.release(now: time.now)
        #expect(try competitor.poll(now: time.now) == .acquire(epoch: 2))
    }

    @Test("A lease that is not renewed is lost after its time to live, and a competitor acquires it")
    func expired() throws {
        let lease = try acquire()
        let competitor = try candidate()
        _ = try competitor.poll(now: time.now)
        time.pass(Self.timeToLive + .seconds(1))
        #expect(!lease.isHeld(now: time.now))
        #expect(throws: StoreError.self) { try lease.renew(now: time.now) }
        var next = try competitor.poll(now: time.now)
        if case .wait(let deadline, _) = next {
            time.pass(deadline - time.now + .seconds(1))
            next = try competitor.poll(now: time.now)
        }
        #expect(next == .acquire(epoch: lease.epoch + 1))
    }

    /// Polls until the lease can be acquired, and returns how long that took.
    private func wait(_ competitor: LeaseCandidate, while renewing: () throws -> Void = {}) throws -> TimeAmount {
        let start = time.now
        while time.now - start < .minutes(10) {
            switch try competitor.poll(now: time.now) {
            case .acquire: return time.now - start
            case .wait(let until, let holder):
                #expect(holder == "gateway-2 (process 7)")
                while time.now < until {
                    time.pass(min(until - time.now, .seconds(1)))
                    try renewing()
                }
            }
        }
        return .hours(1)
    }

    @Test(
        "A waiting process with a shorter or a longer time to live than the holder waits for the longer one",
        arguments: [(60, 15), (15, 60)] as [(Int64, Int64)]
    )
    func mixed(_ holder: Int64, _ waiting: Int64) throws {
        let lease = try acquire(.seconds(holder))
        // A holder that renews by its own time to live keeps the lease.
        let living = try wait(try candidate(.seconds(waiting))) {
            if time.now >= lease.nextRenewal, time.now < .uptimeNanoseconds(1_000_000_000_000) + .minutes(4) {
                try lease.renew(now: time.now)
            }
        }
        #expect(living >= .minutes(4))
        // The renewals have ended.
        let taken = living - .minutes(4)
        #expect(taken <= .seconds(60 + 2 * max(holder, waiting) / 3 + 2))
    }

    @Test("After a holder that did not release the lease, none of its writes succeeds, even of keys that had no value")
    func fenced() throws {
        let old = try acquire()
        _ = try old.write("certs/a", .create([1]))
        let competitor = try candidate()
        _ = try wait(competitor)
        guard case .acquire(let epoch) = try competitor.poll(now: time.now) else { throw CancellationError() }
        let new = try #require(try competitor.acquire(epoch))
        // What an earlier holder writes that was stopped between its check and its write.
        let volume = try volume()
        for (key, change) in [("certs/a", ValueWrite.replace(1, [2])), ("certs/none", .create([2]))] {
            let error = #expect(throws: StoreError.self) {
                try volume.write(try StoreKey(key), change, epoch: old.epoch)
            }
            #expect(error?.code == .fenced)
        }
        #expect(try volume.read("certs/a") == StoredValue(bytes: [1], version: 2, epoch: new.epoch))
        #expect(throws: StoreError.self) { try old.write("certs/a", .remove(nil)) }
        _ = try new.write("certs/none", .create([3]))
    }

    @Test("A value whose file cannot be used is fenced, replaced and removed like another", arguments: [false, true])
    func unusable(_ isLarge: Bool) throws {
        func spoil(_ version: Int) throws {
            let path = "v2/certs/a/\(version).json"
            if isLarge { return _ = scratch.write(path, [UInt8](repeating: 1, count: 2 << 20)) }
            try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: scratch.file(path))
        }
        let old = try acquire()
        _ = try old.write("certs/a", .create([1]))
        try spoil(1)
        let competitor = try candidate()
        _ = try wait(competitor)
        guard case .acquire(let epoch) = try competitor.poll(now: time.now) else { throw CancellationError() }
        let new = try #require(try competitor.acquire(epoch))
        let volume = try volume()
        for change in [ValueWrite.put([2]), .remove(nil)] {
            #expect(code { try volume.write("certs/a", change, epoch: old.epoch) } == .fenced)
        }
        try spoil(2)
        #expect(code { _ = try volume.read("certs/a") } != nil)
        #expect(try new.write("certs/a", .put([3])) == 3)
        #expect(try volume.read("certs/a") == StoredValue(bytes: [3], version: 3, epoch: epoch))
        try spoil(3)
        #expect(try new.write("certs/a", .remove(nil)) == 4)
        #expect(code { _ = try volume.read("certs/a") } == .notFound)
    }

    @Test("After a release nothing is written again")
    func released() throws {
        let old = try acquire()
        _ = try old.write("certs/a", .create([1]))
        try old.release(now: time.now)
        let new = try acquire()
        #expect(new.epoch == 2)
        #expect(try volume().read("certs/a") == StoredValue(bytes: [1], version: 1, epoch: 1))
        #expect(throws: StoreError.self) { try old.write("certs/a", .replace(1, [2])) }
    }

    @Test("A release reads each guarded key once")
    func reads() throws {
        let files = CountingFileSystem(files: try scratch.posixFiles())
        let volume = Volume(files: files)
        let options = LeaseOptions(guards: ["certs/a"])
        let candidate = LeaseCandidate(volume: volume, lease: "reads", options: options, name: "one")
        let lease = try #require(try candidate.acquire(1))
        _ = try lease.write("certs/a", .create([1]))
        _ = try lease.write("certs/a", .remove(nil))
        files.counts.reset()
        try lease.release(now: volume.now())
        // A removal is verified by a second look at the folder.
        #expect(files.counts.all["open certs/a/2.json"] == 2)
    }

    @Test("The folder of a lease is deleted with the release if no guarded key has a value, and epochs still rise")
    func abandoned() throws {
        let folder = scratch.file("v2/locks/site")
        let first = try acquire()
        _ = try first.write("certs/a", .create([1]))
        try first.release(now: time.now)
        #expect(FileManager.default.fileExists(atPath: folder))
        let second = try acquire()
        _ = try second.write("certs/a", .remove(nil))
        // A competitor that has seen the folder polls again after it was deleted.
        let competitor = try candidate()
        guard case .wait = try competitor.poll(now: time.now) else {
            Issue.record("the lease is held")
            return
        }
        try second.release(now: time.now)
        #expect(!FileManager.default.fileExists(atPath: folder))
        guard case .acquire(let epoch) = try competitor.poll(now: time.now) else {
            Issue.record("the lease is free")
            return
        }
        #expect(epoch == 3)
        #expect(throws: StoreError.self) { try second.write("certs/a", .create([2])) }
        let third = try #require(try competitor.acquire(epoch))
        try third.check()
        _ = try third.write("certs/a", .create([3]))
        // A newer epoch is never deleted.
        try FileManager.default.copyItem(atPath: "\(folder)/3", toPath: "\(folder)/4")
        #expect(throws: StoreError.self) { try third.check() }
    }

    @Test("A lost folder of leases brings no old epoch back")
    func lostFolder() throws {
        let old = try acquire()
        _ = try old.write("certs/a", .create([1]))
        try FileManager.default.removeItem(atPath: scratch.file("v2/locks/site"))
        let new = try acquire()
        #expect(new.epoch == 2)
        #expect(try volume().read("certs/a") == StoredValue(bytes: [1], version: 2, epoch: 2))
        #expect(throws: StoreError.self) { try old.renew(now: time.now) }
    }

    @Test("An epoch whose lease was released and deleted with its value is not given to a process that stood still")
    func releasedEpoch() throws {
        let scratch = ScratchFolder()
        let volume = try scratch.volume()
        func candidate(_ name: String) -> LeaseCandidate {
            LeaseCandidate(volume: volume, lease: "a", options: LeaseOptions(guards: ["certs/a"]), name: name)
        }
        let (slow, fast) = (candidate("slow"), candidate("fast"))
        guard case .acquire(1) = try slow.poll(now: .now()) else { return #expect(Bool(false)) }
        let held = try #require(try fast.acquire(1))
        let version = try held.write("certs/a", .create([1]))
        _ = try held.write("certs/a", .remove(version))
        try held.release(now: .now())
        #expect(try slow.acquire(1) == nil)
        guard case .acquire(2) = try slow.poll(now: .now()) else { return #expect(Bool(false)) }
    }
}
