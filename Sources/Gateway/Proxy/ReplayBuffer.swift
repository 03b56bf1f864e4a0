package import NIOCore

/// The part of a request's body that was sent, kept until the response begins so that another attachment can be tried.
///
/// A copy, since a piece as it was read may hold on to a much larger buffer of the layer below.
package struct ReplayBuffer {
    package private(set) var bytes = ByteBuffer()
    /// All of the body so far is here.
    package private(set) var isComplete = true
    private let limit: Int

    package init(limit: Int) {
        self.limit = limit
    }

    package mutating func keep(_ piece: ByteBuffer) {
        guard isComplete else { return }
        if bytes.readableBytes + piece.readableBytes > limit {
            drop()
        } else {
            bytes.writeImmutableBuffer(piece)
        }
    }

    /// No further attempt.
    package mutating func drop() {
        isComplete = false
        if bytes.capacity > 0 { bytes = ByteBuffer() }
    }
}
