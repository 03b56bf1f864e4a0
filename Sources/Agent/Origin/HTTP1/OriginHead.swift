import HopProtocol

/// A parsed response head of an origin.
struct OriginHead {
    private(set) var status = 0
    /// The fields without the hop-by-hop ones and those that Connection names. A 101 keeps `Upgrade`.
    private(set) var fields = FieldSection()
    private(set) var contentLength: Int?
    private(set) var isChunked = false
    /// Whether version and Connection allow another request on the connection.
    private(set) var keepsAlive = false

    /// Parses a head.
    ///
    /// - Parameter bytes: The status line and the fields, up to and including the empty line.
    mutating func parse(_ bytes: UnsafeRawBufferPointer) throws(OriginError) {
        let start = try parseStatusLine(bytes)
        let rest = UnsafeRawBufferPointer(rebasing: bytes[start...])
        var named = try readFraming(rest)
        if status == 101 { named.removeAll { $0 == "upgrade" } }
        fields.reserveCapacity(rest.count)
        var lines = FieldLines(rest)
        while let (name, value) = try lines.next() {
            if HopByHop.contains(name) {
                guard status == 101, ASCII.equalIgnoringCase(name, "upgrade") else { continue }
            } else if !named.isEmpty, named.contains(where: { ASCII.equalIgnoringCase(name, $0) }) {
                continue
            } else if hasNoLength, ASCII.equalIgnoringCase(name, "content-length") {
                continue
            }
            guard fields.count < HopLimits.fields else { throw OriginError(.violation, "too many fields") }
            fields.append(name: name, value: value)
        }
    }

    /// Whether Content-Length is removed: 1xx and 204 must not have one (RFC 9110 §8.6).
    private var hasNoLength: Bool { status < 200 || status == 204 }

    /// Parses `HTTP/1.1 200 reason` (RFC 9112 §4), and returns the index behind the line.
    private mutating func parseStatusLine(_ bytes: UnsafeRawBufferPointer) throws(OriginError) -> Int {
        guard let end = bytes.firstIndex(of: 0x0A), end >= 13, bytes[end - 1] == 0x0D else {
            throw OriginError(.violation, "a bad status line")
        }
        let line = UnsafeRawBufferPointer(rebasing: bytes[..<(end - 1)])
        let version = UnsafeRawBufferPointer(rebasing: line[..<8])
        let digits = UnsafeRawBufferPointer(rebasing: line[9..<12])
        guard line[8] == 0x20, let status = ASCII.decimal(digits), status >= 100,
            line.count == 12 || line[12] == 0x20, ASCII.isFieldValue(line)
        else { throw OriginError(.violation, "a bad status line") }
        if version.elementsEqual("HTTP/1.1".utf8) {
            keepsAlive = true
        } else if version.elementsEqual("HTTP/1.0".utf8) {
            keepsAlive = false
        } else {
            throw OriginError(.violation, "a version other than HTTP/1.0 and HTTP/1.1")
        }
        self.status = status
        return end + 1
    }

    /// Reads Content-Length, Transfer-Encoding and Connection, and returns the other fields that Connection names.
    private mutating func readFraming(_ bytes: UnsafeRawBufferPointer) throws(OriginError) -> [String] {
        let isVersion11 = keepsAlive
        var named: [String] = []
        var lines = FieldLines(bytes)
        while let (name, value) = try lines.next() {
            switch name.count {
            case 10 where ASCII.equalIgnoringCase(name, "connection"):
                for option in ConnectionOptions(value) {
                    if ASCII.equalIgnoringCase(option, "close") {
                        keepsAlive = false
                    } else if ASCII.equalIgnoringCase(option, "keep-alive") {
                        if !isVersion11 { keepsAlive = true }
                    } else {
                        // Each field is compared with each of them, so their number is bounded.
                        guard named.count < HopLimits.fields else {
                            throw OriginError(.violation, "too many options in Connection")
                        }
                        named.append(String(decoding: option, as: UTF8.self).lowercased())
                    }
                }
            case 14 where ASCII.equalIgnoringCase(name, "content-length"):
                guard contentLength == nil, let length = ASCII.decimal(value) else {
                    throw OriginError(.violation, "a bad Content-Length")
                }
                contentLength = length
            case 17 where ASCII.equalIgnoringCase(name, "transfer-encoding"):
                guard !isChunked, isVersion11, ASCII.equalIgnoringCase(value, "chunked") else {
                    throw OriginError(.violation, "a Transfer-Encoding other than a single chunked in HTTP/1.1")
                }
                isChunked = true
            default: break
            }
        }
        guard !(isChunked && contentLength != nil) else {
            throw OriginError(.violation, "both Content-Length and Transfer-Encoding")
        }
        return named
    }
}

/// The field lines of a section that ends with an empty line (RFC 9112 §5). Line folding, a space before the colon and
/// bare LF are rejected.
struct FieldLines {
    private let bytes: UnsafeRawBufferPointer
    private var offset = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    /// The next field, or `nil` at the empty line.
    mutating func next() throws(OriginError) -> (name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)? {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[offset...])
        guard let end = rest.firstIndex(of: 0x0A), end > 0, rest[end - 1] == 0x0D else {
            throw OriginError(.violation, "a line that does not end with CRLF")
        }
        offset += end + 1
        guard end > 1 else { return nil }
        let line = UnsafeRawBufferPointer(rebasing: rest[..<(end - 1)])
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else {
            throw OriginError(.violation, "a field without a colon")
        }
        let name = UnsafeRawBufferPointer(rebasing: line[..<colon])
        let value = ASCII.trimmed(UnsafeRawBufferPointer(rebasing: line[(colon + 1)...]))
        guard ASCII.isToken(name), ASCII.isFieldValue(value) else { throw OriginError(.violation, "a bad field") }
        return (name, value)
    }
}
