import Formats

/// The numbers that the store counts up: versions of values, epochs of leases, and hints. Readers of names and files
/// and writers of the next number share the range.
package enum StoreNumber {
    /// The greatest number, which no count reaches. A greater one was put there by hand: it is ignored like any other
    /// foreign name, so that it does not end the count, and sums of numbers cannot overflow.
    static let greatest: UInt64 = 1 << 53

    /// Parses a number in its canonical decimal form, byte by byte, because a start parses thousands of names.
    static func parse(_ digits: some Collection<UInt8>) -> UInt64? {
        guard let first = digits.first, first != UInt8(ascii: "0") || digits.count == 1 else { return nil }
        var number: UInt64 = 0
        for byte in digits {
            guard let digit = Hex.digit(byte), digit < 10 else { return nil }
            number = number * 10 + UInt64(digit)
            guard number <= greatest else { return nil }
        }
        return number
    }

    /// Parses a name of a file that is a number above zero.
    static func parse(name: some StringProtocol) -> UInt64? { parse(name.utf8).flatMap { $0 > 0 ? $0 : nil } }

    /// Returns the number that follows.
    ///
    /// - Parameter path: The absolute path of the file with `number`, for the error; evaluated only for it.
    /// - Throws: `tooLarge` if there is none.
    static func next(after number: UInt64, in path: @autoclosure () -> String) throws(StoreError) -> UInt64 {
        guard number < greatest else { throw exhausted(path()) }
        return number + 1
    }

    /// Returns the failure of a file whose name is the greatest number, or `nil` if a path has another name.
    package static func exhaustion(of path: String) -> StoreError? {
        let name = path.split(separator: "/").last ?? ""
        return name == "\(greatest)" || name == "\(greatest).json" ? exhausted(path) : nil
    }

    private static func exhausted(_ path: String) -> StoreError {
        // Not deleted: it may have the value that is in use.
        let reason =
            "has the greatest number that there is, because such a number was put here by hand; none can follow"
        return StoreError(.tooLarge, path, "\(reason); move it out of the store's folder")
    }
}
