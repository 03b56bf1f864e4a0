/// The comma-separated options of a Connection field, without the white space around them (RFC 9110 §7.6.1).
///
/// The options are slices of the value and valid as long as its bytes are.
package struct ConnectionOptions: Sequence, IteratorProtocol {
    private var rest: UnsafeRawBufferPointer

    package init(_ value: UnsafeRawBufferPointer) { rest = value }

    package mutating func next() -> UnsafeRawBufferPointer? {
        while !rest.isEmpty {
            let end = rest.firstIndex(of: UInt8(ascii: ",")) ?? rest.count
            let option = ASCII.trimmed(UnsafeRawBufferPointer(rebasing: rest[..<end]))
            rest = UnsafeRawBufferPointer(rebasing: rest[Swift.min(end + 1, rest.count)...])
            if !option.isEmpty { return option }
        }
        return nil
    }
}
