/// The candidate that `word` is most likely a misspelling of, or `nil` if none is similar.
func nearest(to word: String, among candidates: some Sequence<String>) -> String? {
    let letters = Array(word.lowercased().utf8)
    // The word is foreign and possibly huge; no misspelt key is that long.
    guard !letters.isEmpty, letters.count <= 64 else { return nil }
    var best: (word: String, distance: Int)?
    for candidate in candidates {
        let other = Array(candidate.lowercased().utf8)
        let distance = editDistance(letters, other)
        let allowed = max(1, min(letters.count, other.count) / 3)
        // A part or an extension of a key is similar too: `listen` for `https_listen`, `timeout` for `timeouts.header`.
        let contains = letters.count >= 4 && other.count >= 4 && (candidate.contains(word) || word.contains(candidate))
        guard distance <= allowed || contains else { continue }
        if best.map({ distance < $0.distance }) ?? true { best = (candidate, distance) }
    }
    return best?.word
}

/// The number of insertions, deletions, replacements and swaps of neighbours (optimal string alignment distance).
private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var beforeLast: [Int] = []
    var last = Array(0...b.count)
    for i in a.indices {
        var row = [i + 1]
        for j in b.indices {
            var cost = min(last[j + 1] + 1, row[j] + 1, last[j] + (a[i] == b[j] ? 0 : 1))
            if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, beforeLast[j - 1] + 1) }
            row.append(cost)
        }
        beforeLast = last
        last = row
    }
    return last[b.count]
}
