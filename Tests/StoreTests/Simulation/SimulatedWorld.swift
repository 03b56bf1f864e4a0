import Formats
import NIOCore
import Store
import TestSupport

/// One run of the simulation: several replicas on one volume, and a record of what the store promised them. Every claim
/// that turns out to be wrong is a violation.
final class SimulatedWorld: @unchecked Sendable {
    struct Outcome: Sendable {
        var violations: [String] = []
        var facts = Facts()
    }

    /// What happened, so that a test can tell whether its simulation is worth anything.
    struct Facts: Sendable {
        var steps = 0
        var values = 0
        var leases = 0
        var generations = 0
        var commits = 0
        var fenced = 0
        var crashes = 0
        var powerLosses = 0
        var repeatedReplies: UInt64 = 0
        var corrupt: UInt64 = 0
        var looks = 0
        var failedCalls = 0

        static func + (left: Facts, right: Facts) -> Facts {
            var sum = left
            sum.steps += right.steps
            sum.values += right.values
            sum.leases += right.leases
            sum.generations += right.generations
            sum.commits += right.commits
            sum.fenced += right.fenced
            sum.crashes += right.crashes
            sum.powerLosses += right.powerLosses
            sum.repeatedReplies += right.repeatedReplies
            sum.corrupt += right.corrupt
            sum.looks += right.looks
            sum.failedCalls += right.failedCalls
            return sum
        }
    }

    static let keys: [StoreKey] = ["agents/k0", "agents/k1", "agents/k2"]
    static let rotten: StoreKey = "agents/rot"
    static let site: StoreKey = "certs/site"

    let scheduler: SimulatedScheduler
    let server: SimulatedVolume
    var random: SeededGenerator
    var outcome = Outcome()
    var replicas: [SimulatedReplica] = []
    /// Writers stop; looks go on.
    var isQuiet = false
    /// Everything stops.
    var isOver = false

    // The record.
    /// What the store said was published: the highest version of each key.
    var acknowledged: [StoreKey: UInt64] = [:]
    var winners: [StoreKey: Set<UInt64>] = [:]
    /// Of each version of each key, the one content that anybody ever saw.
    var contents: [StoreKey: [UInt64: [UInt8]]] = [:]
    var epochHolders: [UInt64: Int] = [:]
    var newestGeneration: Generation?
    var generationOwners: [Generation: String] = [:]
    /// The tables that a journal may show.
    var tables: [Incarnation: [JournalTable]] = [:]
    /// The last heartbeat that was committed.
    var committed: [Incarnation: UInt64] = [:]
    var buried: Set<Incarnation> = []
    /// Their heartbeats were tampered with: the slot before may count.
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

    /// A process may have seen what nobody was promised; a loss of power takes that back.
    func forgetUnconfirmed() {
        for (key, versions) in contents {
            let promised = acknowledged[key] ?? 0
            contents[key] = versions.filter { $0.key <= promised }
        }
    }

    // MARK: Claims

    /// A value as some reader got it: whole, of this key, and the same as for everybody else.
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
        outcome.facts.values += 1
        sawValue(key, StoredValue(bytes: bytes, version: version), by: replica)
        if !winners[key, default: []].insert(version).inserted {
            violation("\(key): version \(version) was given to two writers")
        }
        acknowledged[key] = max(version, acknowledged[key] ?? 0)
    }

    func tookLease(_ epoch: UInt64, by replica: Int) {
        outcome.facts.leases += 1
        if let other = epochHolders[epoch] { violation("epoch \(epoch) was given to replicas \(other) and \(replica)") }
        epochHolders[epoch] = replica
    }

    func published(_ generation: Generation, _ content: String, after before: Generation?) {
        outcome.facts.generations += 1
        if let other = generationOwners[generation], other != content {
            violation("\(generation) was published twice")
        }
        generationOwners[generation] = content
        if let before, before > generation {
            violation("\(generation) was published after \(before)")
        }
        newestGeneration = max(generation, newestGeneration ?? generation)
    }

    func sawGeneration(_ stored: StoredGeneration, atLeast promised: Generation?, by replica: Int) {
        let chain = String(decoding: stored.files["fullchain.pem"] ?? [], as: UTF8.self)
        let key = String(decoding: stored.files["key.pem"] ?? [], as: UTF8.self)
        if key != "key of " + chain { violation("replica \(replica) read a torn pair: \(chain) / \(key)") }
        if let owner = generationOwners[stored.generation], owner != chain {
            violation("replica \(replica) read foreign contents of \(stored.generation)")
        }
        if let promised, stored.generation < promised {
            violation("replica \(replica) read \(stored.generation) after \(promised) had been published")
        }
    }

    func sawJournal(_ view: ReplicaView, of replica: Incarnation, promised: UInt64, by reader: Int) {
        guard let tables = tables[replica] else { return violation("a journal of nobody: \(replica)") }
        if !tables.contains(view.table) {
            violation("replica \(reader) saw a table of \(replica) that never was")
        }
        if view.heartbeat.sequence < promised, !buried.contains(replica), !disturbed.contains(replica) {
            violation("replica \(reader) saw beat \(view.heartbeat.sequence) of \(replica) after \(promised)")
        }
    }
}
