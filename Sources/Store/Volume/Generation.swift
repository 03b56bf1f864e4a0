/// The number of a published set of files: the epoch of the lease under which it was published, and a counter within
/// the epoch.
package struct Generation: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let epoch: UInt64
    package let counter: UInt64

    package init(epoch: UInt64, counter: UInt64) {
        self.epoch = epoch
        self.counter = counter
    }

    /// The folder's name, zero-padded so that listings sort by number.
    package var description: String { "gen-\(Self.padded(epoch, 10))-\(Self.padded(counter, 6))" }

    /// Parses a folder's name. Fails unless it is written exactly as ``description`` writes it.
    package init?(_ name: some StringProtocol) {
        let parts = name.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0] == "gen", let epoch = UInt64(parts[1]), let counter = UInt64(parts[2]) else {
            return nil
        }
        self.init(epoch: epoch, counter: counter)
        // The largest numbers are reserved, so that there is always a next one.
        guard description == name, epoch < .max, counter < .max else { return nil }
    }

    package static func < (left: Generation, right: Generation) -> Bool {
        (left.epoch, left.counter) < (right.epoch, right.counter)
    }

    private static func padded(_ number: UInt64, _ width: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(width - digits.count, 0)) + digits
    }
}

/// A set of files as it was published. Readers get all of it or none.
package struct StoredGeneration: Equatable, Sendable {
    package let generation: Generation
    package let files: [String: [UInt8]]

    package init(generation: Generation, files: [String: [UInt8]]) {
        self.generation = generation
        self.files = files
    }
}
