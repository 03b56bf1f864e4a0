package import NIOCore

/// The head of a request on a stream.
///
/// Layout: request id (16 B), attempt (variable-length integer), run (16 B), then method, scheme, authority, path and
/// service, each as its length and bytes, remaining deadline in milliseconds (variable-length integer, 0 for none),
/// trace context (length and bytes), fields (length and section). Lengths are variable-length integers. Bytes after the
/// section belong to later versions and are ignored.
package struct RequestHead: Equatable, Sendable {
    package var requestID: RequestID
    /// The number of the attempt at the request, from 1.
    package var attempt: UInt64
    /// The run of the agent that the request was routed to.
    package var run: RunID
    package var method: String
    package var scheme: String
    package var authority: String
    /// The path and query as the original bytes.
    package var path: String
    package var service: String
    /// The time left until the response head is due, or `nil` if there is no deadline. Whole milliseconds travel.
    package var deadline: TimeAmount?
    /// The W3C trace context; empty if there is none.
    package var traceparent: String
    package var fields: FieldSection

    package init(
        requestID: RequestID,
        attempt: UInt64 = 1,
        run: RunID,
        method: String,
        scheme: String,
        authority: String,
        path: String,
        service: String,
        deadline: TimeAmount? = nil,
        traceparent: String = "",
        fields: FieldSection = FieldSection()
    ) {
        self.requestID = requestID
        self.attempt = attempt
        self.run = run
        self.method = method
        self.scheme = scheme
        self.authority = authority
        self.path = path
        self.service = service
        self.deadline = deadline
        self.traceparent = traceparent
        self.fields = fields
    }

    /// Whether the method is idempotent: executing it twice has the effect of executing it once (RFC 9110 §9.2.2).
    package var isIdempotent: Bool {
        switch method {
        case "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE": true
        default: false
        }
    }

    /// The protocol that the request asks to upgrade to, e.g. `websocket`.
    package var upgrade: String? { fields.first("upgrade") }
}

extension RequestHead {
    func encode(into buffer: inout ByteBuffer) {
        buffer.writeInteger(requestID.rawValue)
        buffer.writeVarInt(attempt)
        buffer.writeInteger(run.rawValue)
        buffer.writeLengthPrefixed(method)
        buffer.writeLengthPrefixed(scheme)
        buffer.writeLengthPrefixed(authority)
        buffer.writeLengthPrefixed(path)
        buffer.writeLengthPrefixed(service)
        buffer.writeVarInt(deadlineMilliseconds)
        buffer.writeLengthPrefixed(traceparent)
        buffer.writeVarInt(UInt64(fields.bytes.readableBytes))
        buffer.writeImmutableBuffer(fields.bytes)
    }

    /// The remaining deadline as it travels. A deadline that has passed becomes 1 ms, since 0 means none.
    private var deadlineMilliseconds: UInt64 {
        guard let deadline else { return 0 }
        return UInt64(max(1, deadline.nanoseconds / 1_000_000))
    }

    init(decoding payload: ByteBuffer) throws(HopError) {
        var rest = payload
        guard let id = rest.readInteger(as: UInt128.self), let attempt = rest.readVarInt(),
            let run = rest.readInteger(as: UInt128.self)
        else { throw HopError(.violation, "a request head is cut short") }
        self.requestID = RequestID(rawValue: id)
        self.attempt = attempt
        self.run = RunID(rawValue: run)
        self.method = try rest.readText("method", limit: HopLimits.word, ASCII.isToken)
        self.scheme = try rest.readText("scheme", limit: HopLimits.word, ASCII.isToken)
        self.authority = try rest.readText("authority", limit: HopLimits.head, ASCII.isVisible)
        self.path = try rest.readText("path", limit: HopLimits.head, Self.isPath)
        self.service = try rest.readText("service", limit: HopLimits.word, ASCII.isVisible)
        guard let milliseconds = rest.readVarInt() else {
            throw HopError(.violation, "a request head is cut short")
        }
        // A year is as good as no deadline. The bound keeps the conversion to nanoseconds within 64 bits.
        self.deadline = milliseconds == 0 ? nil : .milliseconds(Int64(min(milliseconds, 31_536_000_000)))
        self.traceparent = try rest.readText("trace context", limit: HopLimits.word, ASCII.isVisible)
        guard let encoded = rest.readLengthPrefixed(limit: HopLimits.head) else {
            throw HopError(.violation, "a request head is cut short")
        }
        self.fields = try FieldSection(decoding: encoded)
    }

    /// Returns whether the bytes are in origin form (RFC 9112 §3.2.1), or `*` as for OPTIONS.
    private static func isPath(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let first = bytes.first, ASCII.isVisible(bytes) else { return false }
        return first == UInt8(ascii: "/") || first == UInt8(ascii: "*") && bytes.count == 1
    }
}

extension ByteBuffer {
    /// Reads a length-prefixed text and checks its bytes. Text that is not UTF-8 is refused, since decoding would
    /// change it.
    fileprivate mutating func readText(
        _ what: StaticString,
        limit: Int,
        _ isValid: (UnsafeRawBufferPointer) -> Bool
    ) throws(HopError) -> String {
        guard let slice = readLengthPrefixed(limit: limit) else {
            throw HopError(.violation, "the \(what) of a request head is cut short or too long")
        }
        guard slice.withUnsafeReadableBytes(isValid),
            let text = slice.withUnsafeReadableBytes({ String(validating: $0, as: UTF8.self) })
        else { throw HopError(.violation, "the \(what) of a request head is not valid") }
        return text
    }
}
