/// The frame types of a tunnel packet: those of RFC 9000 §19, and PARAMETERS, which is specific to tunnels. Every other
/// type is a PROTOCOL_VIOLATION, including those that `docs/protocol.md` marks as reserved.
enum FrameType {
    static let padding: UInt64 = 0x00
    static let ping: UInt64 = 0x01
    static let ack: UInt64 = 0x02
    static let resetStream: UInt64 = 0x04
    static let stopSending: UInt64 = 0x05
    /// The range 0x08–0x0f: the low bits are OFF (4), LEN (2) and FIN (1).
    static let stream: UInt64 = 0x08
    static let maxData: UInt64 = 0x10
    static let maxStreamData: UInt64 = 0x11
    static let maxStreams: UInt64 = 0x12
    static let dataBlocked: UInt64 = 0x14
    static let streamDataBlocked: UInt64 = 0x15
    static let streamsBlocked: UInt64 = 0x16
    static let connectionClose: UInt64 = 0x1c
    static let connectionCloseApplication: UInt64 = 0x1d
    static let parameters: UInt64 = 0x20
}

/// One decoded frame. Its byte ranges point into the packet and are valid only as long as the packet.
package enum Frame {
    case padding
    case ping
    case ack(AckFrame)
    case resetStream(StreamID, code: ApplicationErrorCode, finalSize: UInt64)
    case stopSending(StreamID, code: ApplicationErrorCode)
    case stream(StreamID, offset: UInt64, fin: Bool, data: UnsafeRawBufferPointer)
    case maxData(UInt64)
    case maxStreamData(StreamID, UInt64)
    case maxStreams(UInt64)
    case dataBlocked(UInt64)
    case streamDataBlocked(StreamID, UInt64)
    case streamsBlocked(UInt64)
    case connectionClose(code: ApplicationErrorCode, reason: UnsafeRawBufferPointer)
    case parameters(UnsafeRawBufferPointer)

    /// Whether the frame asks for an acknowledgement: all but ACK, PADDING and CONNECTION_CLOSE do (RFC 9002 §2).
    var isAckEliciting: Bool {
        switch self {
        case .padding, .ack, .connectionClose: false
        default: true
        }
    }

    /// Decodes the next frame of a packet. Returns `nil` at the packet's end.
    ///
    /// - Throws: `TunnelError` if the frame is malformed or of an unknown type.
    package static func next(_ reader: inout WireReader) throws(TunnelError) -> Frame? {
        guard !reader.isAtEnd else { return nil }
        let type = try reader.readVarInt()
        switch type {
        case FrameType.padding:
            reader.skipZeroes()
            return .padding
        case FrameType.ping:
            return .ping
        case FrameType.ack:
            return .ack(try AckFrame(&reader))
        case FrameType.resetStream:
            return .resetStream(
                try streamID(&reader),
                code: ApplicationErrorCode(rawValue: try reader.readVarInt()),
                finalSize: try reader.readVarInt()
            )
        case FrameType.stopSending:
            return .stopSending(try streamID(&reader), code: ApplicationErrorCode(rawValue: try reader.readVarInt()))
        case FrameType.stream...(FrameType.stream | 7):
            return try stream(flags: type & 7, &reader)
        case FrameType.maxData:
            return .maxData(try reader.readVarInt())
        case FrameType.maxStreamData:
            return .maxStreamData(try streamID(&reader), try reader.readVarInt())
        case FrameType.maxStreams:
            return .maxStreams(try streamCount(&reader))
        case FrameType.dataBlocked:
            return .dataBlocked(try reader.readVarInt())
        case FrameType.streamDataBlocked:
            return .streamDataBlocked(try streamID(&reader), try reader.readVarInt())
        case FrameType.streamsBlocked:
            return .streamsBlocked(try streamCount(&reader))
        case FrameType.connectionClose, FrameType.connectionCloseApplication:
            let code = ApplicationErrorCode(rawValue: try reader.readVarInt())
            if type == FrameType.connectionClose { _ = try reader.readVarInt() }
            return .connectionClose(code: code, reason: try reader.readBytes(try reader.readVarInt()))
        case FrameType.parameters:
            return .parameters(try reader.readBytes(try reader.readVarInt()))
        default:
            throw TunnelError(.protocolViolation, "frame type \(type) is unknown or reserved")
        }
    }

    private static func streamID(_ reader: inout WireReader) throws(TunnelError) -> StreamID {
        let id = StreamID(rawValue: try reader.readVarInt())
        guard id.isBidirectional else {
            throw TunnelError(.protocolViolation, "\(id) is unidirectional; only bidirectional streams exist")
        }
        return id
    }

    /// Reads a number of streams. A number above 2^60 could not be expressed as a stream id (RFC 9000 §19.11).
    private static func streamCount(_ reader: inout WireReader) throws(TunnelError) -> UInt64 {
        let count = try reader.readVarInt()
        guard count <= 1 << 60 else { throw .malformed("stream limit \(count)") }
        return count
    }

    private static func stream(flags: UInt64, _ reader: inout WireReader) throws(TunnelError) -> Frame {
        let id = try streamID(&reader)
        let offset = flags & 4 != 0 ? try reader.readVarInt() : 0
        let data = flags & 2 != 0 ? try reader.readBytes(try reader.readVarInt()) : reader.readRest()
        guard offset + UInt64(data.count) <= VarInt.max else { throw .malformed("STREAM offset \(offset)") }
        return .stream(id, offset: offset, fin: flags & 1 != 0, data: data)
    }
}

/// An ACK frame (RFC 9000 §19.3): closed ranges of packet numbers, the largest first.
package struct AckFrame {
    package let largest: UInt64
    /// The microseconds between the receipt of `largest` and the sending of this frame. There is no exponent: the unit
    /// is one microsecond.
    package let delayMicroseconds: UInt64
    private let firstRange: UInt64
    private let rangeCount: UInt64
    private let encodedRanges: UnsafeRawBufferPointer

    init(_ reader: inout WireReader) throws(TunnelError) {
        largest = try reader.readVarInt()
        delayMicroseconds = try reader.readVarInt()
        rangeCount = try reader.readVarInt()
        firstRange = try reader.readVarInt()
        guard firstRange <= largest else { throw .malformed("ACK: its first range goes below zero") }
        // Validated once here, so that a later walk over the ranges cannot fail halfway through its effects.
        var smallest = largest - firstRange
        var copy = reader
        var index: UInt64 = 0
        while index < rangeCount {
            let gap = try copy.readVarInt()
            let length = try copy.readVarInt()
            guard smallest >= gap + 2, smallest - gap - 2 >= length else {
                throw .malformed("ACK: a range goes below zero")
            }
            smallest = smallest - gap - 2 - length
            index += 1
        }
        encodedRanges = try reader.readBytes(UInt64(copy.position - reader.position))
    }

    /// Calls `body` with each range, the largest first.
    package func forEachRange(_ body: (ClosedRange<UInt64>) -> Void) {
        var smallest = largest - firstRange
        body(smallest...largest)
        var reader = WireReader(encodedRanges)
        while !reader.isAtEnd, let gap = try? reader.readVarInt(), let length = try? reader.readVarInt() {
            let top = smallest - gap - 2
            smallest = top - length
            body(smallest...top)
        }
    }
}
