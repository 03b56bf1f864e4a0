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
        let facts = await run(seeds: testSeeds(default: 1_000), kind: .everything)
        #expect(facts.values > 0 && facts.leases > 0 && facts.sites > 0 && facts.removals > 0 && facts.commits > 0)
        #expect(facts.created > 0)
        #expect(facts.fenced > 0 && facts.crashes > 0 && facts.powerLosses > 0 && facts.repeatedReplies > 0)
    }

    /// Runs the seeds on two threads and reports the violations.
    private func run(seeds: Int, kind: SimulatedWorld.Kind) async -> SimulatedWorld.Facts {
        let first = ProcessInfo.processInfo.environment["HOPGATE_SEED"].flatMap { UInt64($0) }
        let all = first.map { [$0] } ?? (0..<UInt64(seeds)).map { $0 }
        return await withTaskGroup(of: SimulatedWorld.Facts.self) { group in
            for lane in 0..<2 {
                group.addTask {
                    await withCheckedContinuation { continuation in
                        Thread.detachNewThread {
                            var sum = SimulatedWorld.Facts()
                            for seed in all where Int(seed % 2) == lane {
                                let outcome = SimulatedWorld(seed: seed).run(kind)
                                for violation in outcome.violations {
                                    Issue.record("seed \(seed): \(violation)")
                                    print("ISSUE seed \(seed): \(violation)")
                                }
                                sum = sum + outcome.facts
                            }
                            continuation.resume(returning: sum)
                        }
                    }
                }
            }
            let facts = await group.reduce(SimulatedWorld.Facts()) { $0 + $1 }
            print("NOTE \(all.count) seeds: \(facts)")
            return facts
        }
    }
}
