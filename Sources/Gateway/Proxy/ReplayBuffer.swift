package import NIOCore

/// The part of a request's body that was sent, kept until the response begins so that another attachment can be tried.
package struct ReplayBuffer {
    package private(set) var pieces: [ByteBuffer] = []
    /// All of the body so far is here.
    package private(set) var isComplete = true
    private var count = 0
    private let limit: Int

    package init(limit: Int) {
        self.limit = limit
    }

    package mutating func keep(_ bytes: ByteBuffer) {
        guard isComplete else { return }
        count += bytes.readableBytes
        if count > limit {
            drop()
        } else {
            pieces.append(bytes)
        }
    }

    /// No further attempt.
    package mutating func drop() {
        isComplete = false
        if !pieces.isEmpty { pieces = [] }
    }
}
