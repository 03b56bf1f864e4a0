import Foundation
import NIOCore
import Store
import TestSupport
import Testing

@Suite("Replicas on a simulated network file system")
struct SimulationTests {
    @Test(
        "Under all faults readers see complete data only, nothing published is lost, and all replicas agree in the end"
    )
    func everything() async throws {
        let facts = await run(seeds: testSeeds(default: 1_000))
        let expected: [SimulatedWorld.Fact] = [
            .values, .leases, .sites, .removals, .created, .commits, .fenced, .crashes, .powerLosses, .repeatedReplies,
        ]
        for fact in expected { #expect(facts[fact, default: 0] > 0, "\(fact)") }
    }

    /// Runs the seeds on two threads and reports the violations.
    private func run(seeds: Int) async -> [SimulatedWorld.Fact: UInt64] {
        let first = ProcessInfo.processInfo.environment["HOPGATE_SEED"].flatMap { UInt64($0) }
        let all = first.map { [$0] } ?? (0..<UInt64(seeds)).map { $0 }
        return await withTaskGroup(of: [SimulatedWorld.Fact: UInt64].self) { group in
            for lane in 0..<2 {
                group.addTask {
                    await withCheckedContinuation { continuation in
                        Thread.detachNewThread {
                            var sum: [SimulatedWorld.Fact: UInt64] = [:]
                            for seed in all where Int(seed % 2) == lane {
                                let outcome = SimulatedWorld(seed: seed).run()
                                for violation in outcome.violations {
                                    Issue.record("seed \(seed): \(violation)")
                                    print("ISSUE seed \(seed): \(violation)")
                                }
                                sum.merge(outcome.facts, uniquingKeysWith: +)
                            }
                            continuation.resume(returning: sum)
                        }
                    }
                }
            }
            let facts: [SimulatedWorld.Fact: UInt64] = await group.reduce(into: [:]) { sum, lane in
                sum.merge(lane, uniquingKeysWith: +)
            }
            print("NOTE \(all.count) seeds: \(facts)")
            return facts
        }
    }
}
