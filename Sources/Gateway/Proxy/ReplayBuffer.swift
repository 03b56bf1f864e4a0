package import NIOCore

/// The part of a request's body that was sent, kept until the response begins so that another attachment can be tried.
///
/// The bytes are copied: a slice as it was read may keep a much larger buffer of the layer below alive.
package struct ReplayBuffer {
    package private(set) var bytes = ByteBuffer()
    /// Whether the buffer holds all of the body so far.
    package private(set) var isComplete = true
    private let limit: Int

    package init(limit: Int) {
        self.limit = limit
    }

    package mutating func append(_ piece: ByteBuffer) {
        guard isComplete else { return }
        if bytes.readableBytes + piece.readableBytes > limit {
            drop()
        } else {
            bytes.writeImmutableBuffer(piece)
        }
    }

    /// Discards the bytes; the request cannot be sent again.
    package mutating func drop() {
        isComplete = false
        if bytes.capacity > 0 { bytes = ByteBuffer() }
    }
}
