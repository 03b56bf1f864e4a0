/// The power of two choices: of two random candidates the one with the lower load is taken, which keeps the longest
/// queue close to the mean without visiting all candidates.
package enum LoadBalancing {
    package enum Choice<Candidate> {
        case candidate(Candidate)
        /// All usable candidates are full.
        case busy
        /// No candidate is usable.
        case none
    }

    /// Chooses a candidate.
    ///
    /// - Parameters:
    ///   - random: 64 random bits.
    ///   - isUsable: Whether a candidate accepts requests at all.
    ///   - load: The number of requests in flight, or `nil` if the candidate is full.
    package static func pick<Candidates: RandomAccessCollection>(
        _ candidates: Candidates,
        random: UInt64,
        isUsable: (Candidates.Element) -> Bool,
        load: (Candidates.Element) -> Int?
    ) -> Choice<Candidates.Element> where Candidates.Index == Int {
        let count = candidates.count
        if count == 0 { return .none }
        if count > 1 {
            // Two random candidates: the less loaded of those that can take the request.
            let start = candidates.startIndex
            let first = Int(truncatingIfNeeded: random & 0xFFFF_FFFF) % count
            var second = Int(truncatingIfNeeded: random >> 32) % (count - 1)
            if second >= first { second += 1 }
            let one = candidates[start + first]
            let other = candidates[start + second]
            let oneLoad = isUsable(one) ? load(one) : nil
            let otherLoad = isUsable(other) ? load(other) : nil
            switch (oneLoad, otherLoad) {
            case (let mine?, let theirs?): return .candidate(mine <= theirs ? one : other)
            case (_?, nil): return .candidate(one)
            case (nil, _?): return .candidate(other)
            case (nil, nil): if count == 2 { return isUsable(one) || isUsable(other) ? .busy : .none }
            }
        }
        // A single candidate, or neither of the two can take it: visit all.
        var best: Candidates.Element?
        var bestLoad = Int.max
        var sawUsable = false
        for candidate in candidates where isUsable(candidate) {
            sawUsable = true
            if let load = load(candidate), load < bestLoad {
                best = candidate
                bestLoad = load
            }
        }
        if let best { return .candidate(best) }
        return sawUsable ? .busy : .none
    }
}
