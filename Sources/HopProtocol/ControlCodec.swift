import FoundationEssentials
package import NIOCore

/// The codec of stream 0: each frame is a length (u32, big endian) and one JSON object of at most 64 KiB.
///
/// The decoding half keeps the bytes of an incomplete message: call ``feed(_:)``, then ``next()`` until it returns
/// `nil`. An error is final and ends the tunnel.
package struct ControlCodec {
    private var pending = ByteBuffer()
    private var failure: HopError?

    package init() {}

    /// Encodes a message with its length.
    ///
    /// - Throws: `tooLarge` above 64 KiB.
    package static func encode(_ message: ControlMessage) throws(HopError) -> ByteBuffer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let json = try? encoder.encode(message) else {
            preconditionFailure("control messages contain only what JSON can encode")
        }
        guard json.count <= HopLimits.controlMessage else {
            throw HopError(.tooLarge, "a control message of \(json.count) bytes is above \(HopLimits.controlMessage)")
        }
        var buffer = ByteBuffer()
        buffer.reserveCapacity(4 + json.count)
        buffer.writeInteger(UInt32(json.count))
        buffer.writeBytes(json)
        return buffer
    }

    /// Appends bytes that arrived on stream 0.
    package mutating func feed(_ bytes: ByteBuffer) {
        if pending.readableBytes == 0 {
            pending = bytes
        } else {
            // A peer whose packets all end within a message must not make the buffer keep what was decoded.
            pending.discardReadBytes()
            pending.writeImmutableBuffer(bytes)
        }
    }

    /// Returns the next message of a known type, or `nil` if more bytes are needed.
    ///
    /// - Throws: `tooLarge` for a length above 64 KiB, `violation` for a message that cannot be read.
    package mutating func next() throws(HopError) -> ControlMessage? {
        if let failure { throw failure }
        do throws(HopError) {
            while let payload = try nextPayload() {
                if let message = try Self.decode(payload) { return message }
            }
            return nil
        } catch {
            failure = error
            pending = ByteBuffer()
            throw error
        }
    }

    /// Whether no message is incomplete. FIN inside a message is a violation.
    package var isBetweenMessages: Bool { pending.readableBytes == 0 }

    /// The memory that an incomplete message occupies.
    package var capacity: Int { pending.storageCapacity }

    private mutating func nextPayload() throws(HopError) -> ByteBuffer? {
        guard let length = pending.getInteger(at: pending.readerIndex, as: UInt32.self) else { return nil }
        guard length <= UInt32(HopLimits.controlMessage) else {
            throw HopError(.tooLarge, "a control message of \(length) bytes is above \(HopLimits.controlMessage)")
        }
        guard pending.readableBytes >= 4 + Int(length) else { return nil }
        pending.moveReaderIndex(forwardBy: 4)
        let payload = pending.readSlice(length: Int(length))
        if pending.readableBytes == 0 { pending = ByteBuffer() }
        return payload
    }

    /// Decodes a message. Returns `nil` if this version does not know its type.
    private static func decode(_ payload: ByteBuffer) throws(HopError) -> ControlMessage? {
        do {
            return try JSONDecoder().decode(ControlMessage.self, from: Data(payload.readableBytesView))
        } catch is ControlMessage.UnknownType {
            return nil
        } catch {
            throw HopError(.violation, "a control message cannot be read")
        }
    }
}
