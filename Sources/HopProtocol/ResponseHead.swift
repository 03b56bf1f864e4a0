import NIOCore

/// The head of a response on a stream, interim (1xx) or final (101 is final).
///
/// Layout: status (variable-length integer), fields (length as a variable-length integer, and section). Bytes after the
/// section are ignored. The reason phrase does not travel.
package struct ResponseHead: Equatable, Sendable {
    package var status: Int
    package var fields: FieldSection

    package init(status: Int, fields: FieldSection = FieldSection()) {
        self.status = status
        self.fields = fields
    }

    /// Whether another head follows: a status of 1xx other than 101.
    package var isInterim: Bool { (100..<200).contains(status) && status != 101 }
}

extension ResponseHead {
    func encode(into buffer: inout ByteBuffer) {
        buffer.writeVarInt(UInt64(status))
        buffer.writeVarInt(UInt64(fields.bytes.readableBytes))
        buffer.writeImmutableBuffer(fields.bytes)
    }

    init(decoding payload: ByteBuffer) throws(HopError) {
        var rest = payload
        guard let status = rest.readVarInt(), (100..<1000).contains(status) else {
            throw HopError(.violation, "a status is not between 100 and 999")
        }
        guard let encoded = rest.readLengthPrefixed(limit: HopLimits.head) else {
            throw HopError(.violation, "a response head is cut short")
        }
        self.status = Int(status)
        self.fields = try FieldSection(decoding: encoded)
    }
}
