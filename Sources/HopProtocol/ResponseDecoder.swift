package import NIOCore

/// A decoder of the response on a stream: `ACCEPTED (1xx HEADERS)* HEADERS DATA* TRAILERS? FIN`. 101 is a final head.
///
/// Call ``feed(_:)`` with bytes as they arrive, then ``next()`` until it returns `nil`. When FIN arrives call
/// ``finish()`` and again ``next()`` until `nil`; the last event is ``Event/end``. An error is final.
package struct ResponseDecoder {
    package enum Event: Sendable {
        /// The request may have started.
        case accepted
        /// A 1xx head other than 101.
        case interim(ResponseHead)
        case head(ResponseHead)
        /// Some bytes of the body (after 101: of the upgraded connection), never empty; a slice of the bytes fed.
        case data(ByteBuffer)
        case trailers(FieldSection)
        /// The message is complete.
        case end
    }

    private enum State {
        case accepted
        case head
        case body
        /// A response to HEAD, 204 or 304: no body, irrespective of Content-Length.
        case bodyless
        case upgraded
        case trailers
        case end
        case failed(HopError)
    }

    private let isHead: Bool
    private var frames = FrameReader()
    private var state = State.accepted
    private var length = BodyLength(nil)
    private var hasFinished = false

    /// Creates a decoder. `method` is the method of the request, since a response to HEAD has no body.
    package init(method: String) { isHead = method == "HEAD" }

    package mutating func feed(_ bytes: ByteBuffer) { frames.feed(bytes) }

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
    /// - Throws: `aborted` if all bytes are consumed and FIN is inside a frame, before the final head, or short of the
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
            case (.data(let bytes), .upgraded):
                return .data(bytes)
            case (.data, .bodyless):
                throw HopError(.violation, "a body where HEAD, 204 or 304 has none")
            case (.frame(MessageFrameType.accepted, _), .accepted):
                state = .head
                return .accepted
            case (.frame(MessageFrameType.headers, let payload), .head):
                let head = try ResponseHead(decoding: payload)
                return head.isInterim ? .interim(head) : .head(try acceptFinalHead(head))
            case (.frame(MessageFrameType.trailers, let payload), .body):
                try length.finish()
                state = .trailers
                return .trailers(try FieldSection(decoding: payload))
            default:
                throw HopError(.violation, "a frame of a response is out of order")
            }
        }
        guard hasFinished else { return nil }
        if case .end = state { return nil }
        try checkEnd()
        state = .end
        return .end
    }

    private mutating func acceptFinalHead(_ head: ResponseHead) throws(HopError) -> ResponseHead {
        switch head.status {
        case 101: state = .upgraded
        case 204, 304: state = .bodyless
        case _ where isHead: state = .bodyless
        default:
            length = BodyLength(try head.fields.contentLength())
            state = .body
        }
        return head
    }

    private func checkEnd() throws(HopError) {
        switch state {
        case .accepted, .head: throw HopError(.aborted, "FIN before the final head")
        default: break
        }
        guard frames.isBetweenFrames else { throw HopError(.aborted, "FIN inside a frame") }
        try length.finish()
    }
}
