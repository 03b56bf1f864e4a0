package import NIOCore

/// The first frame of a stream between two replicas: the attachment that the request is for. The frames of the request
/// follow as on a stream to an agent, and the replica that holds the attachment passes them on unchanged, in both
/// directions.
///
/// Layout of the payload: the incarnation of that replica (16 B), the id of the agent's session there (variable-length
/// integer). Bytes after that belong to later versions and are ignored.
package struct HopHead: Equatable, Sendable {
    package var replica: UInt128
    package var session: UInt64

    package init(replica: UInt128, session: UInt64) {
        self.replica = replica
        self.session = session
    }
}

extension MessageEncoder {
    /// Writes a hop.
    package static func writeHop(_ hop: HopHead, into buffer: inout ByteBuffer) {
        var payload = ByteBuffer()
        payload.writeInteger(hop.replica)
        payload.writeVarInt(hop.session)
        buffer.writeVarInt(MessageFrameType.hop)
        buffer.writeVarInt(UInt64(payload.readableBytes))
        buffer.writeImmutableBuffer(payload)
    }
}

/// A reader of the first frame of a stream between two replicas, which may arrive in pieces.
package struct HopReader {
    private var held = ByteBuffer()

    package init() {}

    /// Reads the hop from the bytes that have arrived.
    ///
    /// - Parameter bytes: The bytes that arrived; afterwards those behind the hop.
    /// - Returns: The hop, or `nil` if more bytes are needed.
    /// - Throws: `violation` if the stream does not begin with a hop, `tooLarge` above ``HopLimits/hop``.
    package mutating func read(_ bytes: inout ByteBuffer) throws(HopError) -> HopHead? {
        held.writeBuffer(&bytes)
        var rest = held
        guard let type = rest.readVarInt() else { return try incomplete() }
        guard type == MessageFrameType.hop else {
            throw HopError(.violation, "a stream of a replica begins with a frame of type \(type)")
        }
        guard let length = rest.readVarInt() else { return try incomplete() }
        guard length <= UInt64(HopLimits.hop) else {
            throw HopError(.tooLarge, "a hop of \(length) bytes is above \(HopLimits.hop)")
        }
        guard var payload = rest.readSlice(length: Int(length)) else { return try incomplete() }
        guard let replica = payload.readInteger(as: UInt128.self), let session = payload.readVarInt() else {
            throw HopError(.violation, "a hop is cut short")
        }
        bytes = rest
        held = ByteBuffer()
        return HopHead(replica: replica, session: session)
    }

    private func incomplete() throws(HopError) -> HopHead? {
        guard held.readableBytes <= HopLimits.hop + 16 else {
            throw HopError(.violation, "a hop cannot be read")
        }
        return nil
    }
}
