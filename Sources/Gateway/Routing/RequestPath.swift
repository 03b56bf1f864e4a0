import Formats

/// Functions on the path of a request, for matching only: the original bytes are forwarded.
///
/// On hosts with path routes, an ambiguous path is refused. Otherwise the gateway could choose a route by one
/// interpretation of the path and the service could serve another.
enum RequestPath {
    /// The length of the path within a request target, in bytes: all that precedes the query.
    static func length(of target: String) -> Int {
        var count = 0
        for byte in target.utf8 {
            if byte == UInt8(ascii: "?") { break }
            count &+= 1
        }
        return count
    }

    /// Whether the path is relative, malformed, or has more than one interpretation because it contains `//`, `\`, a
    /// dot segment (also one with parameters, `..;`), or an encoded dot, slash, backslash or control character (RFC
    /// 3986 §2.1, §5.2.4).
    static func isAmbiguous(_ path: some Sequence<UInt8>) -> Bool {
        var bytes = path.makeIterator()
        guard bytes.next() == UInt8(ascii: "/") else { return true }
        // Of the current segment: its length so far, and whether it consists of dots only.
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
                guard let high = bytes.next().flatMap(Hex.digit), let low = bytes.next().flatMap(Hex.digit) else {
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

    /// The number of bytes of the path that the prefix matches, or `nil` if it does not match up to the end of a
    /// segment. Percent-encoded bytes are compared by the byte that they encode.
    ///
    /// - Parameter prefix: Begins with a slash and does not end with one, or is `/` alone.
    static func match(prefix: String, _ path: some Sequence<UInt8>) -> Int? {
        var bytes = path.makeIterator()
        if prefix.utf8.count == 1 { return bytes.next() == UInt8(ascii: "/") ? 0 : nil }
        var consumed = 0
        for expected in prefix.utf8 {
            guard var byte = bytes.next() else { return nil }
            consumed &+= 1
            if byte == UInt8(ascii: "%") {
                guard let high = bytes.next().flatMap(Hex.digit), let low = bytes.next().flatMap(Hex.digit) else {
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
}
