package import NIOCore

/// Reads a request from a stream: `HEADERS DATA* TRAILERS? FIN`.
///
/// Feed bytes as they arrive, then call ``next()`` until it returns nil. When FIN arrives call ``finish()`` and again
/// ``next()`` until nil; the last event is ``Event/end``. An error is final: reset the stream with its `resetCode`.
package struct RequestDecoder {
    package enum Event: Sendable {
        case head(RequestHead)
        /// Some bytes of the body, never empty; a slice of what was fed.
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

    /// The response was 101: what follows is opaque, and trailers are a violation.
    package mutating func upgraded() { isUpgraded = true }

    /// Bytes that were taken since the last call and are not in a ``Event/data(_:)``: their flow-control credit can be
    /// given back at once.
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

    /// FIN arrived after all that was fed. Throws `aborted` when everything fed was read and FIN stands inside a frame,
    /// before the head, or short of the Content-Length; when something is left, ``next()`` throws it later.
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
