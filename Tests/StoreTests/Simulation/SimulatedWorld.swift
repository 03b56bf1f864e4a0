import Formats
import NIOCore
import Store
import TestSupport

/// One run of the simulation: several replicas on one volume, and a record of what the store has confirmed to them. Any
/// contradiction to the record is a violation.
final class SimulatedWorld: @unchecked Sendable {
    struct Outcome: Sendable {
        var violations: [String] = []
        var facts: [Fact: UInt64] = [:]

        mutating func count(_ fact: Fact, _ number: UInt64 = 1) { facts[fact, default: 0] += number }
    }

    /// The events that are counted, with which a test verifies that the simulation covered them.
    enum Fact: Sendable {
        case values, leases, sites, removals, created, commits, fenced, crashes, powerLosses, repeatedReplies
        case steps, corrupt, polls, failedCalls
    }

    static let keys: [StoreKey] = ["agents/k0", "agents/k1", "agents/k2"]
    static let damagedKey: StoreKey = "agents/rot"
    static let site: StoreKey = "certs/site"
    static let disposableKeys: [StoreKey] = ["acme/challenges/c0", "acme/challenges/c1"]

    let scheduler: SimulatedScheduler
    let server: SimulatedVolume
    var random: SeededGenerator
    var outcome = Outcome()
    var replicas: [SimulatedReplica] = []
    /// Whether the writers have to stop while the readers continue.
    var isQuiet = false
    /// Whether all threads have to stop.
    var isOver = false

    // The record.
    /// The highest confirmed version of each key.
    var acknowledged: [StoreKey: UInt64] = [:]
    var winners: [StoreKey: Set<UInt64>] = [:]
    /// The content of each version of each key, as first seen by any replica.
    var contents: [StoreKey: [UInt64: [UInt8]]] = [:]
    var epochHolders: [UInt64: Int] = [:]
    /// The versions of ``site`` with which a removal was attempted.
    var removalsOfSite: Set<UInt64> = []
    /// The number of begins and ends of removals of each disposable key, and that before its last confirmed creation.
    var removals: [StoreKey: Int] = [:]
    var created: [StoreKey: Int] = [:]
    /// The epochs of the versions of ``site``.
    var siteEpochs: [UInt64: UInt64] = [:]
    /// The tables that a reader of a journal may see.
    var tables: [Incarnation: [JournalTable]] = [:]
    /// The last heartbeat that was committed.
    var committed: [Incarnation: UInt64] = [:]
    var archived: Set<Incarnation> = []
    /// The replicas whose heartbeats were tampered with, so that the older slot may be the valid one.
    var disturbed: Set<Incarnation> = []

    init(seed: UInt64) {
        scheduler = SimulatedScheduler(seed: seed)
        random = SeededGenerator(seed: seed &+ 0x5eed)
        server = SimulatedVolume(seed: seed &+ 0xd15c) { [scheduler] in scheduler.now }
    }

    func violation(_ text: String) {
        if outcome.violations.count < 10 { outcome.violations.append(text) }
    }

    func lives(_ incarnation: Incarnation) -> Bool {
        replicas.contains { $0.isAlive && $0.journal?.incarnation == incarnation }
    }

    /// Forgets unconfirmed contents: a replica may have seen them, and a power loss may undo them.
    func forgetUnconfirmed() {
        for (key, versions) in contents {
            let confirmed = acknowledged[key] ?? 0
            contents[key] = versions.filter { $0.key <= confirmed }
        }
    }

    // MARK: Observations

    /// Records a value that a reader got. It has to be complete, of this key, and the same for all readers.
    func sawValue(_ key: StoreKey, _ value: StoredValue, by replica: Int) {
        guard let counter = Self.counter(in: value.bytes, of: key) else {
            return violation("replica \(replica) read a partial or foreign value of \(key), version \(value.version)")
        }
        if counter != value.version {
            violation("\(key): version \(value.version) has counter \(counter): an update was lost")
        }
        if let known = contents[key]?[value.version], known != value.bytes {
            violation("\(key): version \(value.version) was seen with two contents")
        }
        contents[key, default: [:]][value.version] = value.bytes
    }

    static func value(_ key: StoreKey, counter: UInt64, nonce: UInt64, size: Int) -> [UInt8] {
        let body = "\(key) \(counter) \(nonce) " + String(repeating: "x", count: size) + " "
        return Array(body.utf8) + Array("\(CRC32C.checksum(Array(body.utf8)))".utf8)
    }

    static func counter(in bytes: [UInt8], of key: StoreKey) -> UInt64? {
        guard let space = bytes.lastIndex(of: 0x20) else { return nil }
        let checksum = String(decoding: bytes[(space + 1)...], as: UTF8.self)
        guard checksum == "\(CRC32C.checksum(Array(bytes[...space])))" else { return nil }
        let words = String(decoding: bytes, as: UTF8.self).split(separator: " ")
        guard words.count >= 2, words[0] == key.path else { return nil }
        return UInt64(words[1])
    }

    func published(_ key: StoreKey, _ version: UInt64, _ bytes: [UInt8], by replica: Int) {
        outcome.count(.values)
        sawValue(key, StoredValue(bytes: bytes, version: version), by: replica)
        if !winners[key, default: []].insert(version).inserted {
            violation("\(key): version \(version) was given to two writers")
        }
        acknowledged[key] = max(version, acknowledged[key] ?? 0)
    }

    func acquiredLease(_ epoch: UInt64, by replica: Int) {
        outcome.count(.leases)
        if let other = epochHolders[epoch] { violation("epoch \(epoch) was given to replicas \(other) and \(replica)") }
        epochHolders[epoch] = replica
    }

    /// The highest epoch that was acquired.
    var newestEpoch: UInt64 { epochHolders.keys.max() ?? 0 }

    /// Records a write under a lease.
    ///
    /// - Parameters:
    ///   - stored: The value, or `nil` if it was removed.
    ///   - newest: The highest epoch that was acquired before the write began.
    func wroteSite(_ stored: StoredValue?, _ version: UInt64, epoch: UInt64, afterAcquisitionOf newest: UInt64) {
        if stored == nil { outcome.count(.removals) } else { outcome.count(.sites) }
        if newest > epoch {
            violation("epoch \(epoch) wrote version \(version) after epoch \(newest) was acquired")
        }
        if let stored { record(stored) }
        acknowledged[Self.site] = max(version, acknowledged[Self.site] ?? 0)
    }

    /// Whether ``site`` may have been removed with a version or a later one.
    func mayBeRemoved(since version: UInt64) -> Bool { removalsOfSite.contains { $0 >= version } }

    func sawSite(_ stored: StoredValue, atLeast confirmed: UInt64, by replica: Int) {
        record(stored)
        if stored.version < confirmed {
            violation("replica \(replica) read version \(stored.version) after \(confirmed) had been written")
        }
    }

    /// Records a version of the value that leases guard. Its epochs never decrease.
    private func record(_ stored: StoredValue) {
        if let known = contents[Self.site]?[stored.version], known != stored.bytes {
            violation("version \(stored.version) of \(Self.site) has two contents")
        }
        contents[Self.site, default: [:]][stored.version] = stored.bytes
        siteEpochs = siteEpochs.filter { contents[Self.site]?[$0.key] != nil }
        for (version, epoch) in siteEpochs where (version < stored.version) != (epoch <= stored.epoch) {
            if version != stored.version, epoch != stored.epoch {
                violation("version \(version) has epoch \(epoch), and \(stored.version) has \(stored.epoch)")
            }
        }
        siteEpochs[stored.version] = stored.epoch
    }

    func sawJournal(
        _ table: JournalTable,
        at heartbeat: Heartbeat,
        of replica: Incarnation,
        confirmed: UInt64,
        by reader: Int
    ) {
        guard let tables = tables[replica] else { return violation("a journal of an unknown replica: \(replica)") }
        if !tables.contains(table) {
            violation("replica \(reader) saw a table of \(replica) that never existed")
        }
        if heartbeat.sequence < confirmed, !archived.contains(replica), !disturbed.contains(replica) {
            violation("replica \(reader) saw heartbeat \(heartbeat.sequence) of \(replica) after \(confirmed)")
        }
    }
}
