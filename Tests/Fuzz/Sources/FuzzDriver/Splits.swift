/// The ways of splitting a stream's bytes that must make no difference to a decoder.
package enum Splits {
    /// Returns the bytes as a whole, in pieces of random sizes, and one by one.
    package static func all(of count: Int, seed: UInt8) -> [[Range<Int>]] {
        var state = UInt64(seed)
        let largest = 1 << (Int(seed) % 10)
        var random: [Range<Int>] = []
        var start = 0
        while start < count {
            let end = min(count, start + 1 + Int(next(&state) % UInt64(largest)))
            random.append(start..<end)
            start = end
        }
        return [[0..<count], random, (0..<count).map { $0..<$0 + 1 }]
    }

    /// SplitMix64, so that an input always has the same effect.
    private static func next(_ state: inout UInt64) -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
