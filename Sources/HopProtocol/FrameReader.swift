import NIOCore

/// A reader that cuts a stream's bytes, arriving in arbitrary pieces, into frames. DATA payload is passed on as
/// slices, without waiting for the end of its frame and without a copy. The payload of any other frame is collected up
/// to its limit.
struct FrameReader {
    enum Piece {
        /// The whole payload of a frame other than DATA.
        case frame(type: UInt64, payload: ByteBuffer)
        /// Some bytes of a DATA frame, never empty.
        case data(ByteBuffer)
    }

    private enum State {
        case type
        case length(type: UInt64)
        case data(missing: UInt64)
        case payload(type: UInt64, missing: Int)
    }

    private var input = ByteBuffer()
    private var varInt = VarIntReader()
    private var state = State.type
    /// The collected start of a payload that arrived in pieces.
    private var held = ByteBuffer()
    /// The consumed bytes that are not DATA payload, since ``drainOverhead()`` was last called.
    private(set) var overhead = 0

    /// Whether all input is consumed and no frame is open.
    var isBetweenFrames: Bool {
        if case .type = state { !varInt.isInside && input.readableBytes == 0 } else { false }
    }

    var hasInput: Bool { input.readableBytes > 0 }

    /// Returns ``overhead`` and resets it.
    mutating func drainOverhead() -> Int {
        defer { overhead = 0 }
        return overhead
    }

    /// Appends bytes that arrived.
    mutating func feed(_ bytes: ByteBuffer) {
        if input.readableBytes == 0 {
            input = bytes
        } else {
            input.writeImmutableBuffer(bytes)
        }
    }

    /// Releases the last slice, so that its storage can be reused by its producer.
    private mutating func releaseInputIfEmpty() {
        if input.readableBytes == 0 { input = ByteBuffer() }
    }

    /// Returns the next piece, or `nil` if more bytes are needed.
    mutating func next() throws(HopError) -> Piece? {
        while input.readableBytes > 0 {
            switch state {
            case .type:
                let before = input.readableBytes
                let type = varInt.read(from: &input)
                overhead += before - input.readableBytes
                if let type { state = .length(type: type) }
            case .length(let type):
                let before = input.readableBytes
                let length = varInt.read(from: &input)
                overhead += before - input.readableBytes
                guard let length else { break }
                if type == MessageFrameType.data {
                    state = length == 0 ? .type : .data(missing: length)
                } else {
                    let limit = try Self.limit(of: type)
                    guard length <= UInt64(limit) else {
                        throw HopError(.tooLarge, "a frame of type \(type) has \(length) bytes, the bound is \(limit)")
                    }
                    state = .payload(type: type, missing: Int(length))
                    if length == 0 {
                        state = .type
                        return .frame(type: type, payload: ByteBuffer())
                    }
                }
            case .data(let missing):
                let count = Int(min(missing, UInt64(input.readableBytes)))
                let slice = input.readSlice(length: count)!
                state = missing == UInt64(count) ? .type : .data(missing: missing - UInt64(count))
                releaseInputIfEmpty()
                return .data(slice)
            case .payload(let type, let missing):
                let count = min(missing, input.readableBytes)
                overhead += count
                var slice = input.readSlice(length: count)!
                releaseInputIfEmpty()
                guard count == missing else {
                    held.writeBuffer(&slice)
                    state = .payload(type: type, missing: missing - count)
                    break
                }
                state = .type
                guard held.readableBytes > 0 else { return .frame(type: type, payload: slice) }
                held.writeBuffer(&slice)
                defer { held = ByteBuffer() }
                return .frame(type: type, payload: held)
            }
        }
        releaseInputIfEmpty()
        return nil
    }

    private static func limit(of type: UInt64) throws(HopError) -> Int {
        switch type {
        case MessageFrameType.headers: HopLimits.head
        case MessageFrameType.trailers: HopLimits.trailers
        case MessageFrameType.accepted: HopLimits.accepted
        default: throw HopError(.violation, "a frame of unknown type \(type)")
        }
    }
}

/// A check of a body against its Content-Length.
struct BodyLength {
    private var missing: Int?

    /// Creates the check. `announced` is the Content-Length, or `nil` if there is none.
    init(_ announced: Int?) { missing = announced }

    /// Counts bytes of the body.
    mutating func consume(_ count: Int) throws(HopError) {
        guard let missing else { return }
        guard count <= missing else { throw HopError(.violation, "a body is longer than its Content-Length") }
        self.missing = missing - count
    }

    /// Checks the body's end, by FIN or by trailers.
    func finish() throws(HopError) {
        guard let missing, missing > 0 else { return }
        throw HopError(.aborted, "a body ended \(missing) bytes short of its Content-Length")
    }
}
