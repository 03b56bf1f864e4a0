import NIOCore

/// Cuts a stream's bytes into frames, in any pieces they arrive. DATA payload passes as slices, without waiting for the
/// end of its frame and without a copy; the payload of any other frame is collected up to its bound.
struct FrameReader {
    enum Piece {
        /// The whole payload of a frame that is not DATA.
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
    /// The collected start of a payload that came in pieces.
    private var held = ByteBuffer()
    /// Bytes taken from the input that are not DATA payload, since it was last asked.
    private(set) var overhead = 0

    /// Nothing is left of what was fed, and no frame is open.
    var isBetweenFrames: Bool {
        if case .type = state { !varInt.isInside && input.readableBytes == 0 } else { false }
    }

    var hasInput: Bool { input.readableBytes > 0 }

    mutating func drainOverhead() -> Int {
        defer { overhead = 0 }
        return overhead
    }

    mutating func feed(_ bytes: ByteBuffer) {
        if input.readableBytes == 0 {
            input = bytes
        } else {
            input.writeImmutableBuffer(bytes)
        }
    }

    /// Lets go of the last slice, so that its storage can be reused by the one who filled it.
    private mutating func releaseInputIfEmpty() {
        if input.readableBytes == 0 { input = ByteBuffer() }
    }

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

/// Compares a body with its Content-Length.
struct BodyLength {
    private var missing: Int?

    /// nil: not announced.
    init(_ announced: Int?) { missing = announced }

    mutating func consume(_ count: Int) throws(HopError) {
        guard let missing else { return }
        guard count <= missing else { throw HopError(.violation, "a body is longer than its Content-Length") }
        self.missing = missing - count
    }

    /// The body ended, by FIN or by trailers.
    func finish() throws(HopError) {
        guard let missing, missing > 0 else { return }
        throw HopError(.aborted, "a body ended \(missing) bytes short of its Content-Length")
    }
}
