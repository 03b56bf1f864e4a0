package import NIOCore

/// The transport parameters that each side sends in PARAMETERS, encoded as in RFC 9000 §18: a list of `id, length,
/// value`. Unknown ids are ignored.
package struct TunnelParameters: Equatable, Sendable {
    /// The time without a received packet after which the tunnel ends.
    package var idleTimeout: TimeAmount = .seconds(30)
    /// The bytes that the peer may send on all streams together, stream 0 excepted.
    package var initialMaxData: UInt64 = 0
    /// The bytes that the peer may send on a new stream.
    package var initialMaxStreamData: UInt64 = 0
    /// The number of streams that the peer may open.
    package var initialMaxStreams: UInt64 = 0
    /// The longest time for which an acknowledgement is held back.
    package var maxAckDelay: TimeAmount = .milliseconds(10)
    /// The name of the tunnel across DTLS sessions. Empty when the sender does not move tunnels.
    package var tunnelID: [UInt8] = []
    /// The optional features as bits. None is defined yet.
    package var features: UInt64 = 0

    private enum ID {
        static let idleTimeout: UInt64 = 0x01
        static let initialMaxData: UInt64 = 0x04
        static let initialMaxStreamData: UInt64 = 0x05
        static let initialMaxStreams: UInt64 = 0x08
        static let maxAckDelay: UInt64 = 0x0b
        static let tunnelID: UInt64 = 0x40
        static let features: UInt64 = 0x41
    }

    /// The most bytes that ``write(to:)`` needs.
    static let encodedLimit = 128

    func write(to writer: inout WireWriter) {
        writer.write(varInt: FrameType.parameters)
        let lengthAt = writer.count
        writer.write(twoByteVarInt: 0)
        integer(ID.idleTimeout, UInt64(max(0, idleTimeout.nanoseconds)) / 1_000_000, &writer)
        integer(ID.initialMaxData, initialMaxData, &writer)
        integer(ID.initialMaxStreamData, initialMaxStreamData, &writer)
        integer(ID.initialMaxStreams, initialMaxStreams, &writer)
        integer(ID.maxAckDelay, UInt64(max(0, maxAckDelay.nanoseconds)) / 1_000_000, &writer)
        if !tunnelID.isEmpty {
            writer.write(varInt: ID.tunnelID)
            writer.write(varInt: UInt64(tunnelID.count))
            tunnelID.withUnsafeBytes { writer.write(bytes: $0) }
        }
        if features != 0 { integer(ID.features, features, &writer) }
        let end = writer.count
        writer.rewind(to: lengthAt)
        writer.write(twoByteVarInt: UInt64(end - lengthAt - 2))
        writer.rewind(to: end)
    }

    private func integer(_ id: UInt64, _ value: UInt64, _ writer: inout WireWriter) {
        writer.write(varInt: id)
        writer.write(varInt: UInt64(VarInt.length(value)))
        writer.write(varInt: value)
    }

    package init() {}

    init(decoding bytes: UnsafeRawBufferPointer) throws(TunnelError) {
        var reader = WireReader(bytes)
        var seen: Set<UInt64> = []
        while !reader.isAtEnd {
            let id = try reader.readVarInt()
            var value = WireReader(try reader.readBytes(try reader.readVarInt()))
            guard seen.insert(id).inserted else { throw .malformed("PARAMETERS: \(id) stands twice") }
            switch id {
            case ID.idleTimeout: idleTimeout = try Self.milliseconds(&value)
            case ID.initialMaxData: initialMaxData = try value.readVarInt()
            case ID.initialMaxStreamData: initialMaxStreamData = try value.readVarInt()
            case ID.initialMaxStreams: initialMaxStreams = try value.readVarInt()
            case ID.maxAckDelay: maxAckDelay = try Self.milliseconds(&value)
            case ID.tunnelID: tunnelID = Array(value.readRest())
            case ID.features: features = try value.readVarInt()
            default: _ = value.readRest()
            }
            guard value.isAtEnd else { throw .malformed("PARAMETERS: \(id) is too long") }
        }
        guard initialMaxStreams <= 1 << 60, tunnelID.count <= 32 else {
            throw .malformed("PARAMETERS: a value is out of range")
        }
        guard idleTimeout >= .milliseconds(100), maxAckDelay <= .seconds(16) else {
            throw .malformed("PARAMETERS: a time is out of range")
        }
    }

    private static func milliseconds(_ value: inout WireReader) throws(TunnelError) -> TimeAmount {
        .milliseconds(Int64(min(try value.readVarInt(), 1 << 40)))
    }
}
