/// Power of two choices: of two candidates taken at random the one with less to do, which keeps the fullest queue
/// near the mean without looking at all of them.
package enum LoadBalancing {
    package enum Choice<Candidate> {
        case candidate(Candidate)
        /// There are some and all of them are full.
        case busy
        case none
    }

    /// - Parameters:
    ///   - isUsable: it takes requests at all.
    ///   - load: requests in flight; nil when it is full.
    ///   - random: 64 random bits.
    package static func pick<Candidates: RandomAccessCollection>(
        _ candidates: Candidates,
        random: UInt64,
        isUsable: (Candidates.Element) -> Bool,
        load: (Candidates.Element) -> Int?
    ) -> Choice<Candidates.Element> where Candidates.Index == Int {
        let count = candidates.count
        if count == 0 { return .none }
        if count > 1 {
            // Two at random; whichever can take it and has less to do.
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
        // One alone, or neither of the two: the best of all.
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
