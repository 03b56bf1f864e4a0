/// A sorted set of disjoint half-open ranges of stream offsets. It is almost always empty or one range long, so a plain
/// array that is searched from its end is the fastest form.
package struct ByteRanges {
    package private(set) var ranges: [Range<UInt64>] = []

    package init() {}

    package var isEmpty: Bool { ranges.isEmpty }
    package var first: Range<UInt64>? { ranges.first }

    /// Adds a range and joins it with the ranges that it touches.
    package mutating func insert(_ range: Range<UInt64>) {
        guard !range.isEmpty else { return }
        let start = firstIndex(endingAtOrAfter: range.lowerBound)
        var merged = range
        var end = start
        while end < ranges.count, ranges[end].lowerBound <= merged.upperBound {
            merged =
                min(merged.lowerBound, ranges[end].lowerBound)..<max(merged.upperBound, ranges[end].upperBound)
            end += 1
        }
        if end == start + 1 {
            ranges[start] = merged
        } else {
            ranges.replaceSubrange(start..<end, with: CollectionOfOne(merged))
        }
    }

    /// Removes a range. A range that it cuts through is split.
    package mutating func remove(_ range: Range<UInt64>) {
        guard !range.isEmpty else { return }
        var index = firstIndex(endingAtOrAfter: range.lowerBound &+ 1)
        while index < ranges.count, ranges[index].lowerBound < range.upperBound {
            let old = ranges[index]
            let left = old.lowerBound < range.lowerBound ? old.lowerBound..<range.lowerBound : nil
            let right = old.upperBound > range.upperBound ? range.upperBound..<old.upperBound : nil
            switch (left, right) {
            case (let left?, let right?):
                ranges[index] = left
                ranges.insert(right, at: index + 1)
                return
            case (let kept?, nil), (nil, let kept?):
                ranges[index] = kept
                index += 1
            case (nil, nil):
                ranges.remove(at: index)
            }
        }
    }

    /// Removes up to `limit` bytes from the front and returns them, or `nil` if the set is empty.
    package mutating func popFirst(atMost limit: UInt64) -> Range<UInt64>? {
        guard let first = ranges.first, limit > 0 else { return nil }
        if UInt64(first.count) <= limit {
            ranges.removeFirst()
            return first
        }
        let cut = first.lowerBound + limit
        ranges[0] = cut..<first.upperBound
        return first.lowerBound..<cut
    }

    package mutating func removeAll() { ranges.removeAll() }

    private func firstIndex(endingAtOrAfter offset: UInt64) -> Int {
        // New ranges arrive at the end, so that is checked before searching.
        guard let last = ranges.last, last.upperBound >= offset else { return ranges.count }
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].upperBound < offset { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
