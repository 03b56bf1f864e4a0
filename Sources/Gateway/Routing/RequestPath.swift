/// The path of a request, for matching only: what is forwarded are the original bytes.
///
/// On hosts with path routes a path that two servers could read in two ways is refused: otherwise the gateway would
/// choose a route by one reading and the service would serve by the other.
enum RequestPath {
    /// The length in bytes of the path within a request target: everything before the query.
    static func length(of target: String) -> Int {
        var count = 0
        for byte in target.utf8 {
            if byte == UInt8(ascii: "?") { break }
            count &+= 1
        }
        return count
    }

    /// True unless the path is absolute, well-formed, and has exactly one reading: no `//`, no `\`, no dot segments
    /// (also none with parameters, `..;`), no encoded dot, slash, backslash or control character (RFC 3986 sections
    /// 2.1, 5.2.4).
    static func isAmbiguous(_ path: some Sequence<UInt8>) -> Bool {
        var bytes = path.makeIterator()
        guard bytes.next() == UInt8(ascii: "/") else { return true }
        /// Bytes of the current segment so far, and whether all of them are dots.
        var length = 0
        var onlyDots = true
        while let byte = bytes.next() {
            switch byte {
            case UInt8(ascii: "/"):
                if length == 0 || isDotSegment(length, onlyDots) { return true }
                length = 0
                onlyDots = true
                continue
            case UInt8(ascii: ";"):
                if isDotSegment(length, onlyDots) { return true }
                onlyDots = false
            case UInt8(ascii: "\\"), 0x00...0x20, 0x7F, UInt8(ascii: "#"): return true
            case UInt8(ascii: "."): break
            case UInt8(ascii: "%"):
                guard let high = bytes.next().flatMap(hexadecimal), let low = bytes.next().flatMap(hexadecimal) else {
                    return true
                }
                switch high << 4 | low {
                case UInt8(ascii: "."), UInt8(ascii: "/"), UInt8(ascii: "\\"), 0x00...0x1F, 0x7F: return true
                default: onlyDots = false
                }
            default: onlyDots = false
            }
            length &+= 1
        }
        return isDotSegment(length, onlyDots)
    }

    /// How many bytes of the path the prefix takes; nil when it is no prefix on a segment boundary. Percent-encoded
    /// bytes count as what they stand for.
    ///
    /// - Parameter prefix: begins with a slash and does not end with one, or is `/` alone.
    static func match(prefix: String, _ path: some Sequence<UInt8>) -> Int? {
        var bytes = path.makeIterator()
        if prefix.utf8.count == 1 { return bytes.next() == UInt8(ascii: "/") ? 0 : nil }
        var consumed = 0
        for expected in prefix.utf8 {
            guard var byte = bytes.next() else { return nil }
            consumed &+= 1
            if byte == UInt8(ascii: "%") {
                guard let high = bytes.next().flatMap(hexadecimal), let low = bytes.next().flatMap(hexadecimal) else {
                    return nil
                }
                byte = high << 4 | low
                consumed &+= 2
            }
            guard byte == expected else { return nil }
        }
        guard let next = bytes.next() else { return consumed }
        return next == UInt8(ascii: "/") ? consumed : nil
    }

    private static func isDotSegment(_ length: Int, _ onlyDots: Bool) -> Bool {
        onlyDots && (length == 1 || length == 2)
    }

    private static func hexadecimal(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte &- UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte &- UInt8(ascii: "a") &+ 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte &- UInt8(ascii: "A") &+ 10
        default: nil
        }
    }
}
