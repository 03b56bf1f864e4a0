import NIOCore
import Store
import TestSupport

/// One process of a ``SimulatedWorld``: a client of the volume, its own monotonic clock, and the threads that use the
/// store as a gateway does.
final class SimulatedReplica: @unchecked Sendable {
    let number: Int
    let world: SimulatedWorld
    private(set) var files: SimulatedFileSystem!
    private(set) var volume: Volume!
    /// The time until which the process is stopped (SIGSTOP).
    var stoppedUntil: UInt64 = 0
    private let clockOffset: UInt64
    private let clockRate: Double
    private(set) var journal: JournalWriter!
    private(set) var polled: PolledValues!
    private(set) var certificates: PolledValues!
    private(set) var site: StoredValue?
    private(set) var journals: [Incarnation: MirroredJournal] = [:]
    /// The start time of the last complete poll.
    private(set) var lastPoll: UInt64 = 0
    private(set) var lastProblem: String?
    private(set) var pollProblem: String?
    /// The number of threads that are running.
    private(set) var runningThreads = 0

    init(number: Int, world: SimulatedWorld) {
        self.number = number
        self.world = world
        clockOffset = world.random.next() % 1_000_000_000_000_000
        clockRate = 0.999 + Double(world.random.next() % 2_000) / 1_000_000
        files = SimulatedFileSystem(volume: world.server) { [unowned self] in passCall() }
        volume = Volume(files: files, now: { [unowned self] in now }, random: { [world] in world.random.next() })
    }

    var now: NIODeadline {
        .uptimeNanoseconds(clockOffset + UInt64(Double(world.scheduler.now) * clockRate))
    }

    var isAlive: Bool { !files.isDead && !world.isOver }

    /// Passes the time that a call takes, which is usually short.
    private func passCall() {
        let faults = world.server.faults
        world.scheduler.pass(20_000 + world.random.next() % 1_000_000)
        if world.random.chance(faults.hang) {
            let end =
                world.scheduler.now + UInt64(Double(world.random.next() % 1_000) / 1_000 * faults.hangSeconds * 1e9)
            // A server that has recovered answers the calls that hang.
            while world.scheduler.now < end, world.server.faults.hang > 0 { world.scheduler.pass(500_000_000) }
        }
        passWhileStopped()
    }

    /// Waits until the process may continue, which may be earlier than it was said when it was stopped.
    private func passWhileStopped() {
        while stoppedUntil > world.scheduler.now {
            world.scheduler.pass(min(stoppedUntil - world.scheduler.now, 250_000_000))
        }
    }

    func sleep(milliseconds: UInt64) {
        world.scheduler.pass(milliseconds * 1_000_000)
        passWhileStopped()
    }

    private func sleep(until due: NIODeadline) {
        let wait = due - now
        sleep(milliseconds: UInt64(max(wait.nanoseconds / 1_000_000, 1)))
    }

    /// Performs a call whose failure is only recorded; returns `nil` then.
    func attempt<Result>(_ body: () throws(StoreError) -> Result) -> Result? {
        do {
            return try body()
        } catch {
            if !files.isDead {
                world.outcome.count(.failedCalls)
                lastProblem = "\(error)"
            }
            return nil
        }
    }

    func start() {
        spawn(writeValues)
        spawn(acquireLeases)
        spawn(writeJournal)
        spawn(poll)
        spawn(createAndRemove)
        spawn(collect)
    }

    private func spawn(_ body: @escaping @Sendable () -> Void) {
        runningThreads += 1
        world.scheduler.spawn { [self] in
            body()
            runningThreads -= 1
        }
    }

    // MARK: Activities of a gateway

    private func writeValues() {
        while isAlive, !world.isQuiet {
            sleep(milliseconds: 50 + world.random.next() % 700)
            let key = SimulatedWorld.keys[Int(world.random.next() % UInt64(SimulatedWorld.keys.count))]
            let size = Int(world.random.next() % 1_500)
            let nonce = world.random.next()
            func content(_ counter: UInt64) -> [UInt8] {
                SimulatedWorld.value(key, counter: counter, nonce: nonce, size: size)
            }
            _ = attempt { () throws(StoreError) in
                let confirmed = world.acknowledged[key] ?? 0
                do throws(StoreError) {
                    let value = try volume.read(key)
                    world.sawValue(key, value, by: number)
                    if value.version < confirmed {
                        world.violation("\(key): version \(value.version) was read after \(confirmed) was published")
                    }
                    let bytes = content(value.version + 1)
                    let version = try volume.write(key, .replace(value.version, bytes))
                    world.published(key, version, bytes, by: number)
                } catch {
                    guard error.code == .notFound else { throw error }
                    if confirmed > 0, isAlive, error.place.hasSuffix(key.path), !world.server.isUnmounted {
                        world.violation("\(key): gone after version \(confirmed) was published")
                    }
                    let bytes = content(1)
                    let version = try volume.write(key, .create(bytes))
                    world.published(key, version, bytes, by: number)
                }
            }
        }
    }

    /// Creates and removes keys whose folders are deleted at once.
    private func createAndRemove() {
        while isAlive, !world.isQuiet {
            sleep(milliseconds: 20 + world.random.next() % 400)
            let key = SimulatedWorld.disposableKeys[Int(world.random.next() % 2)]
            let removals = world.removals[key, default: 0]
            _ = attempt { () throws(StoreError) in
                do throws(StoreError) {
                    _ = try volume.read(key)
                    // Both the begin and the end of a removal are counted: it takes effect between them.
                    world.removals[key, default: 0] += 1
                    defer { world.removals[key, default: 0] += 1 }
                    try volume.write(key, .remove(nil))
                } catch {
                    guard error.code == .notFound else { throw error }
                    try volume.write(key, .create(Array("\(key) \(world.random.next())".utf8)))
                    world.outcome.count(.created)
                    world.created[key] = removals
                }
            }
        }
    }

    private func collect() {
        let collector = GarbageCollector(volume: volume)
        while isAlive, !world.isQuiet {
            sleep(milliseconds: 20 + world.random.next() % 400)
            var rest = attempt { () throws(StoreError) in try collector.examine(now: now) }?[...] ?? []
            while !rest.isEmpty, isAlive { rest = collector.delete(rest) }
        }
    }

    private func acquireLeases() {
        while isAlive, !world.isQuiet {
            sleep(milliseconds: world.random.next() % 3_000)
            var options = LeaseOptions(guards: [SimulatedWorld.site])
            // The times to live differ, as during a change of the setting.
            options.timeToLive = .seconds(number % 3 == 0 ? 5 : 3)
            let candidate = LeaseCandidate(volume: volume, lease: "site", options: options, name: "replica \(number)")
            var won: HeldLease?
            while isAlive, !world.isQuiet, won == nil {
                let step = attempt { () throws(StoreError) in try candidate.poll(now: now) }
                switch step {
                case .acquire(let epoch): won = attempt { () throws(StoreError) in try candidate.acquire(epoch) } ?? nil
                case .wait(let until, _): sleep(until: until)
                case nil: sleep(milliseconds: 500)
                }
            }
            guard let lease = won else { continue }
            world.acquiredLease(lease.epoch, by: number)
            write(under: lease)
        }
    }

    /// Writes under a lease until it is lost, released or abandoned.
    private func write(under lease: HeldLease) {
        let rounds = world.random.next() % 5
        for round in 0..<rounds where isAlive {
            if world.random.chance(0.2) { sleep(milliseconds: world.random.next() % 6_000) }
            guard attempt({ () throws(StoreError) in try lease.renew(now: now) }) != nil else { return }
            let content = Array("site \(number) \(lease.epoch) \(round) \(world.random.next())".utf8)
            let newestHolder = world.newestEpoch
            let removes = world.random.chance(0.25)
            _ = attempt { () throws(StoreError) in
                let change: ValueWrite
                do throws(StoreError) {
                    let version = try volume.read(SimulatedWorld.site).version
                    change = removes ? .remove(version) : .replace(version, content)
                    if removes { world.removalsOfSite.insert(version + 1) }
                } catch {
                    guard error.code == .notFound else { throw error }
                    change = .create(content)
                }
                let version = try lease.write(SimulatedWorld.site, change)
                var stored: StoredValue? = StoredValue(bytes: content, version: version, epoch: lease.epoch)
                if case .remove = change { stored = nil }
                world.wroteSite(stored, version, epoch: lease.epoch, afterAcquisitionOf: newestHolder)
            }
            sleep(milliseconds: world.random.next() % 900)
        }
        if world.random.chance(0.7) { _ = attempt { () throws(StoreError) in try lease.release(now: now) } }
    }

    private func writeJournal() {
        var pace = JournalWriter.Pace()
        pace.logLimit = 3_000
        pace.logAllocationStep = 4_096
        pace.oldFileRetention = .seconds(5)
        let writer = JournalWriter(volume: volume, pace: pace)
        var hasBegun = false
        var incarnation = name()
        // The journal continues after the writers have stopped: the other replicas have to see it alive.
        while isAlive {
            if !hasBegun {
                world.tables[incarnation, default: []].append(writer.table)
                let card = Array("card of \(incarnation)".utf8)
                hasBegun =
                    attempt { () throws(StoreError) in
                        try writer.begin(as: incarnation, info: card, now: now)
                        return true
                    } ?? false
                if hasBegun { journal = writer } else { sleep(milliseconds: 300) }
                continue
            }
            if !world.isQuiet { changes(writer) }
            if world.tables[incarnation]?.last != writer.table {
                world.tables[incarnation, default: []].append(writer.table)
            }
            switch attempt({ () throws(StoreError) in try writer.tick(now: now) }) {
            case .committed:
                world.outcome.count(.commits)
                world.committed[incarnation] = writer.heartbeat.sequence
            case .fenced:
                world.outcome.count(.fenced)
                incarnation = name()
                hasBegun = false
            case .idle, nil: break
            }
            sleep(until: max(writer.nextTick, now + .milliseconds(Int64(world.random.next() % 400))))
        }
    }

    private func name() -> Incarnation {
        Incarnation(milliseconds: world.scheduler.now / 1_000_000) { world.random.next() }
    }

    private func changes(_ writer: JournalWriter) {
        for _ in 0..<world.random.next() % 4 {
            let key = [UInt8(world.random.next() % 12)]
            if world.random.chance(0.3) {
                writer.remove(key: key)
            } else {
                writer.put(key: key, value: [UInt8](repeating: UInt8(world.random.next() % 250), count: 60))
            }
        }
        if world.random.chance(0.1) { writer.update { $0.sessions &+= 1 } }
    }

    private func poll() {
        polled = PolledValues(volume: volume, prefix: "agents") { key, value throws(StoreError) in
            guard SimulatedWorld.counter(in: value.bytes, of: key) != nil else {
                throw StoreError(.corrupt, key.path, "has a wrong checksum")
            }
        }
        certificates = PolledValues(volume: volume, prefix: "certs")
        while isAlive {
            let began = world.scheduler.now
            var isComplete = pollValues()
            isComplete = attempt { () throws(StoreError) in try certificates.poll() } != nil && isComplete
            isComplete = pollSite() && isComplete
            isComplete = pollJournals() && isComplete
            if isComplete, isAlive {
                world.outcome.count(.polls)
                lastPoll = began
            }
            // At most once a second.
            let took = (world.scheduler.now - began) / 1_000_000
            sleep(milliseconds: took < 1_000 ? 1_000 - took : 1)
        }
    }

    private func pollValues() -> Bool {
        let before = polled.current
        guard attempt({ () throws(StoreError) in try polled.poll() }) != nil else { return false }
        // What a process has read before it died may have been lost with it.
        guard isAlive else { return false }
        let now = polled.current
        for (name, value) in before {
            if now[name] == nil { world.violation("replica \(number) lost its valid view of \(name)") }
            if let new = now[name], new.version < value.version {
                world.violation("replica \(number) went back to version \(new.version) of \(name)")
            }
        }
        for key in SimulatedWorld.keys {
            if let value = now[key.name], value != before[key.name] { world.sawValue(key, value, by: number) }
        }
        let problem = polled.problems.first { $0.key != SimulatedWorld.damagedKey.name && $0.value.isTransient }
        if let problem { pollProblem = "\(problem)" }
        return problem == nil
    }

    private func pollSite() -> Bool {
        let confirmed = world.acknowledged[SimulatedWorld.site] ?? 0
        do {
            let stored = try volume.read(SimulatedWorld.site)
            world.sawSite(stored, atLeast: confirmed, by: number)
            if let site, stored.version < site.version {
                world.violation("replica \(number) went back from \(site.version) to \(stored.version)")
            }
            site = stored
            return true
        } catch {
            guard error.code == .notFound else { return false }
            if confirmed > 0, isAlive, !world.server.isUnmounted, !world.mayBeRemoved(since: confirmed) {
                world.violation("replica \(number) found no value although version \(confirmed) was written")
            }
            site = nil
            return true
        }
    }

    private func pollJournals() -> Bool {
        guard let replicas = attempt({ () throws(StoreError) in try volume.replicaFolders() }) else { return false }
        journals = journals.filter { replicas.contains($0.key) }
        var isComplete = true
        for replica in replicas {
            let reader = journals[replica] ?? MirroredJournal(volume: volume, replica: replica)
            journals[replica] = reader
            let confirmed = world.committed[replica] ?? 0
            let hasTable = reader.table != nil
            if attempt({ () throws(StoreError) in try reader.poll() }) == nil {
                // A dead replica cannot repair a heartbeat that was damaged by an intruder and a crash.
                isComplete = isComplete && world.disturbed.contains(replica) && !world.lives(replica)
                pollProblem = lastProblem
                if hasTable, reader.table == nil { world.violation("a damaged journal erased valid rows") }
            } else if let table = reader.table, let heartbeat = reader.reader.position {
                world.sawJournal(table, at: heartbeat, of: replica, confirmed: confirmed, by: number)
            }
        }
        return isComplete
    }
}
