package import NIOCore

/// The frame types of a request stream.
enum MessageFrameType {
    static let headers: UInt64 = 1
    static let data: UInt64 = 2
    static let trailers: UInt64 = 3
    static let accepted: UInt64 = 4
    /// The first frame of a stream between two replicas.
    static let hop: UInt64 = 5
}

/// An encoder of HTTP messages as frames on a stream: type and length as variable-length integers, then the payload.
/// FIN after the last frame ends the message.
package enum MessageEncoder {
    /// The most bytes that ``writeDataHeader(length:into:)`` writes.
    package static let maximumDataHeader = 9

    /// Writes a request head.
    ///
    /// - Throws: `tooLarge` above 96 KiB; nothing is written then.
    package static func writeRequestHead(_ head: RequestHead, into buffer: inout ByteBuffer) throws(HopError) {
        try writeFrame(MessageFrameType.headers, limit: HopLimits.head, into: &buffer) { head.encode(into: &$0) }
    }

    /// Writes an interim or the final response head.
    ///
    /// - Throws: `tooLarge` above 96 KiB; nothing is written then.
    package static func writeResponseHead(_ head: ResponseHead, into buffer: inout ByteBuffer) throws(HopError) {
        precondition((100..<1000).contains(head.status), "a status has three digits")
        try writeFrame(MessageFrameType.headers, limit: HopLimits.head, into: &buffer) { head.encode(into: &$0) }
    }

    /// Writes a trailer section.
    ///
    /// - Throws: `tooLarge` above 8 KiB; nothing is written then.
    package static func writeTrailers(_ fields: FieldSection, into buffer: inout ByteBuffer) throws(HopError) {
        try writeFrame(MessageFrameType.trailers, limit: HopLimits.trailers, into: &buffer) {
            $0.writeImmutableBuffer(fields.bytes)
        }
    }

    /// Writes ACCEPTED: the request may have started.
    package static func writeAccepted(into buffer: inout ByteBuffer) {
        buffer.writeVarInt(MessageFrameType.accepted)
        buffer.writeVarInt(0)
    }

    /// Writes the header of a DATA frame. The caller sends the `length` payload bytes after it, from the buffer they
    /// are in.
    package static func writeDataHeader(length: Int, into buffer: inout ByteBuffer) {
        buffer.writeVarInt(MessageFrameType.data)
        buffer.writeVarInt(UInt64(length))
    }

    /// Writes a whole DATA frame, copying its payload: for small bodies that are sent together with their head.
    package static func writeData(_ bytes: ByteBuffer, into buffer: inout ByteBuffer) {
        writeDataHeader(length: bytes.readableBytes, into: &buffer)
        buffer.writeImmutableBuffer(bytes)
    }

    /// Writes a frame. Its length is a variable-length integer of 4 bytes, reserved before the payload is known.
    private static func writeFrame(
        _ type: UInt64,
        limit: Int,
        into buffer: inout ByteBuffer,
        _ payload: (inout ByteBuffer) -> Void
    ) throws(HopError) {
        let start = buffer.writerIndex
        buffer.writeVarInt(type)
        let lengthIndex = buffer.writerIndex
        buffer.writeInteger(UInt32(0))
        payload(&buffer)
        let length = buffer.writerIndex - lengthIndex - 4
        guard length <= limit else {
            buffer.moveWriterIndex(to: start)
            throw HopError(.tooLarge, "a frame of \(length) bytes is above \(limit)")
        }
        buffer.setInteger(UInt32(length) | 0x8000_0000, at: lengthIndex)
    }
}
