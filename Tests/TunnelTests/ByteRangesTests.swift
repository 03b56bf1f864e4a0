import TestSupport
import Testing
import Tunnel

@Suite("Byte ranges")
struct ByteRangesTests {
    @Test("Insertion and removal agree with a set of single offsets", arguments: 0..<50)
    func agreesWithASet(seed: Int) {
        var generator = SeededGenerator(seed: UInt64(seed))
        var ranges = ByteRanges()
        var model: Set<UInt64> = []
        for _ in 0..<300 {
            let low = UInt64.random(in: 0..<200, using: &generator)
            let high = low + UInt64.random(in: 0..<30, using: &generator)
            switch Int.random(in: 0..<3, using: &generator) {
            case 0:
                ranges.insert(low..<high)
                model.formUnion(low..<high)
            case 1:
                ranges.remove(low..<high)
                model.subtract(low..<high)
            default:
                let limit = UInt64.random(in: 1...20, using: &generator)
                let popped = ranges.popFirst(atMost: limit)
                #expect(popped?.lowerBound == model.min())
                if let popped {
                    #expect(UInt64(popped.count) <= limit)
                    #expect(popped.allSatisfy(model.contains))
                    model.subtract(popped)
                }
            }
            #expect(Set(ranges.ranges.flatMap { Array($0) }) == model)
            for (left, right) in zip(ranges.ranges, ranges.ranges.dropFirst()) {
                #expect(left.upperBound < right.lowerBound)
            }
        }
    }
}
