import Foundation
import Glibc
import NIOCore
import Store
import TestSupport
import Testing

/// Real processes on one folder of a real file system.
@Suite("Processes", .serialized)
struct ProcessTests {
    @Test("Eight processes that start at once on an empty store found one cluster with one key, in 50 rounds")
    func founding() throws {
        for round in 0..<50 {
            let scratch = ScratchFolder()
            let start = NIODeadline.now() + .milliseconds(60)
            let probes = try (0..<8).map { _ in
                try Probe(["found", scratch.file("v2"), "\(start.uptimeNanoseconds)"])
            }
            for probe in probes { probe.wait() }
            let answers = Set(probes.map { $0.lines.joined(separator: "|") })
            #expect(answers.count == 1, "round \(round): \(answers)")
            #expect(scratch.names("v2/keys").count == 1, "round \(round)")
            #expect(scratch.names("v2/cluster.json") == ["1"])
            #expect(scratch.names("v2/tmp").isEmpty)
            let words = answers.first?.split(separator: " ") ?? []
            #expect(words.count == 2 && scratch.names("v2/keys") == [String(words.last ?? "")])
        }
    }

    @Test("After kill -9 at a random moment readers see complete data only, and nothing confirmed is lost")
    func killed() async throws {
        let scratch = ScratchFolder()
        let volume = try scratch.volume()
        let polled = PolledValues(volume: volume, prefix: "agents") { key, value throws(StoreError) in
            guard isWhole(value.bytes) else { throw StoreError(.corrupt, key.path, "is torn") }
        }
        var promisedVersion: UInt64 = 0
        var promisedSite: UInt64 = 0
        var readers: [Incarnation: MirroredJournal] = [:]
        for round in 0..<100 {
            let probe = try Probe(["write", scratch.file("v2")])
            try await eventually { probe.lines.count > 3 || !probe.isRunning }
            try await Task.sleep(nanoseconds: UInt64.random(in: 0...8_000_000))
            probe.send(SIGKILL)
            probe.wait()
            for line in probe.lines.dropLast() {
                let words = line.split(separator: " ")
                if words.first == "value", let version = UInt64(words[1]) {
                    promisedVersion = max(promisedVersion, version)
                }
                if words.first == "site", let version = UInt64(words[1]) { promisedSite = max(promisedSite, version) }
            }
            try polled.poll()
            #expect(polled.problems.isEmpty, "round \(round)")
            #expect(try #require(polled.current["shared"]).version >= promisedVersion)
            let stored = try volume.read("certs/site")
            #expect(isWhole(stored.bytes) && stored.version >= promisedSite)
            for replica in try volume.replicaFolders() {
                let reader = readers[replica] ?? MirroredJournal(volume: volume, replica: replica)
                readers[replica] = reader
                try reader.poll()
                #expect(reader.table?.rows.values.allSatisfy(isWhole) == true)
                #expect(try volume.info(of: replica) == bytes("card of \(replica)"))
            }
        }
        #expect(readers.count == 100 && promisedVersion > 100)
        #expect(volume.counts.corrupt == 0 && volume.counts.transient == 0)
        // The remains of a hundred killed processes are swept.
        let collector = GarbageCollector(volume: volume)
        for replica in readers.keys { try volume.archive(replica) }
        let now = NIODeadline.now()
        _ = try collector.sweep(now: now)
        _ = try collector.sweep(now: now + .minutes(9))
        #expect(scratch.names("v2/tombs").count == 100)
        _ = try collector.sweep(now: now + .minutes(11))
        #expect(scratch.names("v2/tombs").isEmpty && scratch.names("v2/tmp").isEmpty)
    }

    @Test("A holder that was stopped for longer than its time to live cannot write when it continues")
    func stopped() async throws {
        let scratch = ScratchFolder()
        let volume = try scratch.volume()
        let first = try Probe(["lease", scratch.file("v2"), "3000"])
        try await eventually { first.lines.contains { $0.hasPrefix("written") } }
        first.send(SIGSTOP)
        let stopped = ContinuousClock.now
        let second = try Probe(["lease", scratch.file("v2"), "3000"])
        try await eventually(within: .seconds(20)) { second.lines.contains { $0.hasPrefix("written") } }
        let taken = ContinuousClock.now - stopped
        #expect(taken > .seconds(2.9) && taken < .seconds(6), "acquired after \(taken)")
        #expect(try volume.read("certs/site").epoch == 2)
        first.send(SIGCONT)
        try await eventually { !first.isRunning }
        #expect(first.status == 3, "\(first.lines.suffix(2))")
        let after = try volume.read("certs/site")
        #expect(after.epoch == 2 && after.bytes.starts(with: bytes("epoch 2")))
        #expect(second.isRunning)
        second.send(SIGKILL)
        second.wait()
        print("NOTE taken over after \(taken)")
    }
}

private func isWhole(_ bytes: [UInt8]) -> Bool {
    guard let space = bytes.firstIndex(of: 0x20),
        let number = UInt64(String(decoding: bytes[..<space], as: UTF8.self))
    else { return false }
    let rest = bytes[(space + 1)...]
    return rest.count == Int(number % 5_000) && rest.allSatisfy { $0 == UInt8(number & 0xff) }
}
