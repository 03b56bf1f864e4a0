/// The reason for which a partly received response is refused.
package enum ResponseFault: Error, Equatable, Sendable {
    case headTooLarge
    case bodyTooLarge
    case malformed(String)
}

/// Assembles a response from the header lines and body chunks that libcurl delivers, within the limits. Sans-IO.
package struct ResponseParts {
    private enum Stage {
        case statusLine
        case fields
        /// The final head is complete; further lines are trailers.
        case body
    }

    package private(set) var status = 0
    package private(set) var fields = OutboundFields()
    package private(set) var body: [UInt8] = []
    /// Whether any part of a response, possibly an interim one, has arrived.
    package private(set) var hasBegun = false
    /// The time at which the status line of the last head arrived, as given by the caller.
    package private(set) var receivedAt: Int64 = 0
    private var stage = Stage.statusLine
    private var headBytes = 0
    private var fieldCount = 0
    private var isHTTP1 = false
    private let hasBody: Bool
    private let limits: OutboundLimits

    /// - Parameter hasBody: Whether the response may have a body; `false` for a response to HEAD.
    package init(hasBody: Bool = true, limits: OutboundLimits) {
        self.hasBody = hasBody
        self.limits = limits
    }

    /// Whether the final head has been received.
    package var isComplete: Bool { stage == .body }

    /// Handles one line of a head or of the trailers, including its line ending.
    ///
    /// - Parameter now: The wall clock, read when the line is a status line.
    package mutating func receive(line: some RandomAccessCollection<UInt8>, now: () -> Int64) throws(ResponseFault) {
        hasBegun = true
        headBytes += line.count
        guard headBytes <= limits.responseHead else { throw .headTooLarge }
        var content = line[...]
        if content.last == 0x0A { content = content.dropLast() }
        if content.last == 0x0D { content = content.dropLast() }
        switch stage {
        case .statusLine:
            status = try Self.status(content)
            isHTTP1 = content.starts(with: "HTTP/1".utf8)
            fields = OutboundFields()
            receivedAt = now()
            stage = .fields
        case .fields:
            if content.isEmpty {
                // After an interim response comes another head (RFC 9110 §15.2).
                stage = status < 200 ? .statusLine : .body
                if stage == .body { try checkLength() }
            } else {
                try append(content)
            }
        case .body:
            if !content.isEmpty { try count() }
        }
    }

    /// Refuses a body that is delimited by the end of its connection (RFC 9112 §6.3). It cannot be told from a
    /// truncated one: anyone on the path can end a connection, and libcurl accepts the end of TLS without a
    /// close_notify alert.
    private func checkLength() throws(ResponseFault) {
        guard isHTTP1, hasBody, status != 204, status != 304 else { return }
        if let coding = fields.values("transfer-encoding").last {
            let last = coding.split(separator: ",").last.map {
                String(decoding: Self.trimmed(Array($0.utf8)), as: UTF8.self).lowercased()
            }
            guard last == "chunked" else { throw .malformed("a transfer coding other than chunked") }
        } else if fields["content-length"] == nil {
            throw .malformed("a response that is neither chunked nor has a Content-Length")
        }
    }

    /// Handles a chunk of the body.
    package mutating func receive(body bytes: some Collection<UInt8>) throws(ResponseFault) {
        guard bytes.count <= limits.responseBody - body.count else { throw .bodyTooLarge }
        body.append(contentsOf: bytes)
    }

    private mutating func count() throws(ResponseFault) {
        fieldCount += 1
        guard fieldCount <= limits.responseFields else { throw .headTooLarge }
    }

    private mutating func append(_ line: some Collection<UInt8>) throws(ResponseFault) {
        try count()
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { throw .malformed("a field without a colon") }
        let name = line[..<colon]
        guard !name.isEmpty, name.allSatisfy(Self.isTokenByte) else { throw .malformed("a field with a bad name") }
        let value = Self.trimmed(Array(line[line.index(after: colon)...]))
        guard value.allSatisfy({ $0 == 0x09 || ($0 >= 0x20 && $0 != 0x7F) }) else {
            throw .malformed("a field with a control character")
        }
        fields.append(String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self))
    }

    /// Parses a status line such as `HTTP/1.1 200 OK` or `HTTP/2 200`.
    private static func status(_ line: some Collection<UInt8>) throws(ResponseFault) -> Int {
        let words = line.split(separator: 0x20, maxSplits: 2, omittingEmptySubsequences: false)
        guard words.count >= 2, words[0].starts(with: "HTTP/".utf8), words[1].count == 3 else {
            throw .malformed("no status line")
        }
        var status = 0
        for byte in words[1] {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { throw .malformed("no status line") }
            status = status * 10 + Int(byte - UInt8(ascii: "0"))
        }
        guard status >= 100 else { throw .malformed("a status below 100") }
        return status
    }

    private static func trimmed(_ bytes: [UInt8]) -> ArraySlice<UInt8> {
        var slice = bytes[...]
        while let first = slice.first, first == 0x20 || first == 0x09 { slice.removeFirst() }
        while let last = slice.last, last == 0x20 || last == 0x09 { slice.removeLast() }
        return slice
    }

    /// Whether a byte may be part of a token (RFC 9110 §5.6.2).
    static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
}
