import Gateway
import Testing

@Suite("Power of two choices")
struct LoadBalancingTests {
    private struct Candidate {
        var name: Int
        var load: Int?
        var isUsable = true
    }

    private func pick(_ candidates: [Candidate], random: UInt64) -> LoadBalancing.Choice<Int> {
        let choice = LoadBalancing.pick(
            candidates,
            random: random,
            isUsable: { $0.isUsable },
            load: { $0.load }
        )
        switch choice {
        case .candidate(let candidate): return .candidate(candidate.name)
        case .busy: return .busy
        case .none: return .none
        }
    }

    private func name(_ choice: LoadBalancing.Choice<Int>) -> Int? {
        if case .candidate(let name) = choice { name } else { nil }
    }

    @Test("No candidate, a full one and an unusable one are distinguished")
    func few() {
        guard case .none = pick([], random: 1) else { return #expect(Bool(false)) }
        guard case .busy = pick([Candidate(name: 1, load: nil)], random: 1) else { return #expect(Bool(false)) }
        guard case .none = pick([Candidate(name: 1, load: 0, isUsable: false)], random: 1) else {
            return #expect(Bool(false))
        }
        #expect(name(pick([Candidate(name: 1, load: 5)], random: 1)) == 1)
    }

    @Test("The less loaded of two candidates is taken for every random number")
    func two() {
        var generator = SystemRandomNumberGenerator()
        let candidates = [Candidate(name: 1, load: 7), Candidate(name: 2, load: 3)]
        for _ in 0..<200 { #expect(name(pick(candidates, random: generator.next())) == 2) }
    }

    @Test("A full or unusable candidate is never taken while another can take the request")
    func avoid() {
        var generator = SystemRandomNumberGenerator()
        var candidates = (0..<20).map { Candidate(name: $0, load: nil) }
        for index in 0..<10 { candidates[index].isUsable = false }
        candidates[13].load = 900
        for _ in 0..<500 { #expect(name(pick(candidates, random: generator.next())) == 13) }
        candidates[13].load = nil
        guard case .busy = pick(candidates, random: 7) else { return #expect(Bool(false)) }
    }

    @Test("A thousand requests are spread evenly over ten candidates")
    func even() {
        var generator = SystemRandomNumberGenerator()
        var candidates = (0..<10).map { Candidate(name: $0, load: 0) }
        for _ in 0..<1_000 {
            guard let taken = name(pick(candidates, random: generator.next())) else { return #expect(Bool(false)) }
            candidates[taken].load? += 1
        }
        #expect(candidates.allSatisfy { (85...115).contains($0.load ?? 0) })
    }
}
