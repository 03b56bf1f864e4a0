/// A fuzz input that is read from its start to its end. Reads past the end yield 0 or nothing.
package struct Script {
    private let input: UnsafeBufferPointer<UInt8>
    private var position = 0

    package init(_ start: UnsafePointer<UInt8>, _ count: Int) {
        input = UnsafeBufferPointer(start: start, count: count)
    }

    package var isAtEnd: Bool { position == input.count }

    package mutating func byte() -> UInt8 {
        guard position < input.count else { return 0 }
        defer { position += 1 }
        return input[position]
    }

    package mutating func bytes(_ count: Int) -> [UInt8] {
        let end = min(input.count, position + count)
        defer { position = end }
        return Array(input[position..<end])
    }

    package mutating func rest() -> [UInt8] { bytes(input.count - position) }

    /// Reads all bytes up to the next `separator`, which is consumed too, or up to the end.
    package mutating func bytes(until separator: UInt8) -> [UInt8] {
        let rest = input[position...]
        guard let end = rest.firstIndex(of: separator) else { return self.rest() }
        defer { position = end + 1 }
        return Array(input[position..<end])
    }
}
