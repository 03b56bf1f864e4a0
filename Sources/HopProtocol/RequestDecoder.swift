package import NIOCore

/// A decoder of the request on a stream: `HEADERS DATA* TRAILERS? FIN`.
///
/// Call ``feed(_:)`` with bytes as they arrive, then ``next()`` until it returns `nil`. When FIN arrives call
/// ``finish()`` and again ``next()`` until `nil`; the last event is ``Event/end``. An error is final: reset the stream
/// with its `resetCode`.
package struct RequestDecoder {
    package enum Event: Sendable {
        case head(RequestHead)
        /// Some bytes of the body, never empty; a slice of the bytes fed.
        case data(ByteBuffer)
        case trailers(FieldSection)
        /// The message is complete.
        case end
    }

    private enum State {
        case head
        case body
        case trailers
        case end
        case failed(HopError)
    }

    private var frames = FrameReader()
    private var state = State.head
    private var length = BodyLength(nil)
    private var isUpgraded = false
    private var hasFinished = false

    package init() {}

    package mutating func feed(_ bytes: ByteBuffer) { frames.feed(bytes) }

    /// Records that the response was 101: the bytes that follow are opaque, and trailers are a violation.
    package mutating func upgraded() { isUpgraded = true }

    /// Returns the number of bytes consumed since the last call that are not part of a ``Event/data(_:)``. Their
    /// flow-control credit can be returned at once.
    package mutating func drainOverhead() -> Int { frames.drainOverhead() }

    package mutating func next() throws(HopError) -> Event? {
        if case .failed(let error) = state { throw error }
        do throws(HopError) {
            return try advance()
        } catch {
            state = .failed(error)
            throw error
        }
    }

    /// Records that FIN has arrived after all bytes fed.
    ///
    /// - Throws: `aborted` if all bytes are consumed and FIN is inside a frame, before the head, or short of the
    ///   Content-Length. If bytes are left, ``next()`` throws it later.
    package mutating func finish() throws(HopError) {
        hasFinished = true
        guard !frames.hasInput else { return }
        do throws(HopError) {
            try checkEnd()
        } catch {
            state = .failed(error)
            throw error
        }
    }

    private mutating func advance() throws(HopError) -> Event? {
        while let piece = try frames.next() {
            switch (piece, state) {
            case (.data(let bytes), .body):
                try length.consume(bytes.readableBytes)
                return .data(bytes)
            case (.frame(MessageFrameType.headers, let payload), .head):
                let head = try RequestHead(decoding: payload)
                length = BodyLength(try head.fields.contentLength())
                state = .body
                return .head(head)
            case (.frame(MessageFrameType.trailers, let payload), .body) where !isUpgraded:
                try length.finish()
                state = .trailers
                return .trailers(try FieldSection(decoding: payload))
            default:
                throw HopError(.violation, "a frame of a request is out of order")
            }
        }
        guard hasFinished else { return nil }
        if case .end = state { return nil }
        try checkEnd()
        state = .end
        return .end
    }

    private func checkEnd() throws(HopError) {
        if case .head = state { throw HopError(.aborted, "FIN before the request head") }
        guard frames.isBetweenFrames else { throw HopError(.aborted, "FIN inside a frame") }
        try length.finish()
    }
}
