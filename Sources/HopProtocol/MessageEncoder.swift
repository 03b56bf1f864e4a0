package import NIOCore

/// The frames of a request stream.
enum MessageFrameType {
    static let headers: UInt64 = 1
    static let data: UInt64 = 2
    static let trailers: UInt64 = 3
    static let accepted: UInt64 = 4
}

/// Writes the frames of HTTP over a stream: type and length as variable-length integers, then
/// the payload. FIN after the last frame ends the message.
package enum MessageEncoder {
    /// The most that ``writeDataHeader(length:into:)`` writes.
    package static let maximumDataHeader = 9

    /// Throws `tooLarge` above 96 KiB; then nothing was written.
    package static func writeRequestHead(_ head: RequestHead, into buffer: inout ByteBuffer) throws(HopError) {
        try writeFrame(MessageFrameType.headers, limit: HopLimits.head, into: &buffer) { head.encode(into: &$0) }
    }

    /// Writes an interim or the final head. Throws `tooLarge` above 96 KiB; then nothing was written.
    package static func writeResponseHead(_ head: ResponseHead, into buffer: inout ByteBuffer) throws(HopError) {
        precondition((100..<1000).contains(head.status), "a status has three digits")
        try writeFrame(MessageFrameType.headers, limit: HopLimits.head, into: &buffer) { head.encode(into: &$0) }
    }

    /// Throws `tooLarge` above 8 KiB; then nothing was written.
    package static func writeTrailers(_ fields: FieldSection, into buffer: inout ByteBuffer) throws(HopError) {
        try writeFrame(MessageFrameType.trailers, limit: HopLimits.trailers, into: &buffer) {
            $0.writeImmutableBuffer(fields.bytes)
        }
    }

    package static func writeAccepted(into buffer: inout ByteBuffer) {
        buffer.writeVarInt(MessageFrameType.accepted)
        buffer.writeVarInt(0)
    }

    /// The header of a DATA frame whose `length` payload bytes the caller sends after it, from the buffer they are in.
    package static func writeDataHeader(length: Int, into buffer: inout ByteBuffer) {
        buffer.writeVarInt(MessageFrameType.data)
        buffer.writeVarInt(UInt64(length))
    }

    /// A whole DATA frame, copied: for small bodies that leave together with their head.
    package static func writeData(_ bytes: ByteBuffer, into buffer: inout ByteBuffer) {
        writeDataHeader(length: bytes.readableBytes, into: &buffer)
        buffer.writeImmutableBuffer(bytes)
    }

    /// The length is written as a 4-byte variable-length integer before the payload is known.
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
