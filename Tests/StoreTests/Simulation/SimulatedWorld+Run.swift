import NIOCore
import Store
import TestSupport

extension SimulatedWorld {
    private static let faultSeconds: UInt64 = 25
    private static let calmSeconds: UInt64 = 8
    /// The time for two complete polls.
    private static let agreementSeconds: UInt64 = 3

    func run() -> Outcome {
        server.faults = .caching
        scheduler.spawn { [self] in
            prepare()
            for number in 0..<3 { startReplica(number) }
            injectFaults()
            heal()
            sleep(Self.calmSeconds)
            isQuiet = true
            // Only polls that begin after the last change count.
            while replicas.contains(where: { $0.isAlive && $0.runningThreads > 2 }) { sleep(milliseconds: 50) }
            let quietSince = scheduler.now
            sleep(Self.agreementSeconds)
            compare(since: quietSince)
            isOver = true
        }
        scheduler.run()
        for replica in replicas {
            outcome.count(.repeatedReplies, replica.volume.counts.repeatedReplies)
            outcome.count(.corrupt, replica.volume.counts.corrupt)
        }
        outcome.count(.steps, UInt64(scheduler.steps))
        return outcome
    }

    private func sleep(_ seconds: UInt64) { scheduler.pass(seconds * 1_000_000_000) }

    private func sleep(milliseconds: UInt64) { scheduler.pass(milliseconds * 1_000_000) }

    /// Creates the store before any fault occurs.
    private func prepare() {
        let volume = Volume(files: SimulatedFileSystem(volume: server), random: { [self] in random.next() })
        do {
            try volume.prepare()
            let bytes = Self.value(Self.damagedKey, counter: 1, nonce: 1, size: 100)
            try volume.write(Self.damagedKey, .create(bytes))
        } catch {
            violation("an empty store could not be prepared: \(error)")
        }
    }

    private func startReplica(_ number: Int) {
        let replica = SimulatedReplica(number: number, world: self)
        replicas.append(replica)
        replica.start()
    }

    // MARK: Faults

    private func injectFaults() {
        server.faults.lostReply = 0.02
        server.faults.failure = 0.005
        server.faults.failureAfter = 0.005
        server.faults.failedSync = 0.01
        server.faults.shortTransfer = 0.05
        server.faults.hang = 0.001
        let end = scheduler.now + Self.faultSeconds * 1_000_000_000
        while scheduler.now < end {
            sleep(milliseconds: 200 + random.next() % 1_500)
            switch random.next() % 12 {
            case 0, 1: crash()
            case 2: if random.chance(0.3) { losePower() }
            case 3: living?.stoppedUntil = scheduler.now + random.next() % 8_000_000_000
            case 4: during(3_000) { server.isFull = $0 }
            case 5: during(3_000) { server.isReadOnly = $0 }
            case 6: if random.chance(0.5) { during(2_000) { server.isUnmounted = $0 } }
            case 7, 8: archiveReplica()
            default: tamperWithFiles()
            }
        }
    }

    private func heal() {
        server.faults = .caching
        for replica in replicas { replica.stoppedUntil = 0 }
        // Restore the damaged file.
        let bytes = Self.value(Self.damagedKey, counter: 1, nonce: 1, size: 100)
        server.tamper("\(Self.damagedKey)/1.json") { $0 = storedFile(bytes) }
        while replicas.filter(\.isAlive).count < 3 { startReplica(replicas.count) }
    }

    private var living: SimulatedReplica? {
        let alive = replicas.filter(\.isAlive)
        return alive.isEmpty ? nil : alive[Int(random.next() % UInt64(alive.count))]
    }

    private func during(_ milliseconds: UInt64, _ set: (Bool) -> Void) {
        set(true)
        sleep(milliseconds: random.next() % milliseconds)
        set(false)
    }

    private func crash() {
        guard let victim = living else { return }
        outcome.count(.crashes)
        victim.files.die()
        sleep(milliseconds: random.next() % 3_000)
        startReplica(replicas.count)
    }

    private func losePower() {
        outcome.count(.powerLosses)
        for replica in replicas where replica.isAlive { replica.files.die() }
        server.losePower()
        forgetUnconfirmed()
        for _ in 0..<3 { startReplica(replicas.count) }
    }

    /// Archives a replica, which may be alive.
    private func archiveReplica() {
        guard let archiver = living, let victim = replicas[Int(random.next() % UInt64(replicas.count))].journal
        else {
            return
        }
        let name = victim.incarnation
        archived.insert(name)
        _ = archiver.attempt { () throws(StoreError) in try archiver.volume.archive(name) }
    }

    /// Writes bytes that no replica wrote.
    private func tamperWithFiles() {
        switch random.next() % 6 {
        case 0:
            server.tamper("\(Self.damagedKey)/1.json") { [self] in
                if !$0.isEmpty { $0[Int(random.next() % UInt64($0.count))] ^= 0x40 }
            }
        case 1: server.tamper("\(Self.damagedKey)/1.json") { [self] in $0 = Array($0.prefix(Int(random.next() % 90))) }
        case 2: server.addFile("agents/garbage\(random.next() % 3)", [1, 2, 3])
        case 3: server.addFile("agents/k0/junk", [0])
        case 4:
            // One slot of a heartbeat: the other one is still valid, or the next heartbeat repairs the file.
            guard let name = living?.journal?.incarnation else { return }
            disturbed.insert(name)
            server.tamper("replicas/\(name)/hb") { [self] bytes in
                let slot = Int(random.next() % 2) * 4_096
                if bytes.count > slot + 40 { bytes[slot + 30] ^= 0xff }
            }
        default: server.addFile("replicas/not-a-replica-\(random.next() % 3)", [0])
        }
    }

    // MARK: Final state

    /// Verifies that all replicas have the same state, and that it is the one that was published.
    private func compare(since quiet: UInt64) {
        let truth = Volume(files: SimulatedFileSystem(volume: server), random: { [self] in random.next() })
        for key in Self.disposableKeys where created[key] == removals[key, default: 0] {
            if (try? truth.read(key)) == nil { violation("\(key) was created and is lost") }
        }
        for replica in replicas where replica.isAlive {
            if replica.lastPoll < quiet {
                let ago = (scheduler.now - replica.lastPoll) / 1_000_000
                violation(
                    "replica \(replica.number) has not completed a poll for \(ago) ms: \(replica.pollProblem ?? "?")"
                )
                continue
            }
            for key in Self.keys + [Self.damagedKey] {
                let stored = try? truth.read(key)
                if stored != replica.polled.current[key.name] {
                    violation("replica \(replica.number) does not know version \(stored?.version ?? 0) of \(key)")
                }
                if let confirmed = acknowledged[key], stored?.version ?? 0 < confirmed {
                    violation("\(key): version \(confirmed) was published and is lost")
                }
            }
            let site = try? truth.read(Self.site)
            if site != replica.site || site != replica.certificates.current[Self.site.name] {
                violation("replica \(replica.number) does not know that \(Self.site) has version \(site?.version ?? 0)")
            }
            if let confirmed = acknowledged[Self.site], site?.version ?? 0 < confirmed, !mayBeRemoved(since: confirmed)
            {
                violation("\(Self.site): version \(confirmed) was written and is lost")
            }
            for other in replicas where other.isAlive {
                guard let journal = other.journal else {
                    violation("replica \(other.number) never started a journal")
                    continue
                }
                if replica.journals[journal.incarnation]?.table != journal.table {
                    violation("replica \(replica.number) does not know the rows of replica \(other.number)")
                }
            }
        }
    }
}
