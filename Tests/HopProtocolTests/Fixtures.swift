import HopProtocol
import NIOCore

/// An event of a decoder in a form that can be compared; pieces of DATA are joined.
enum DecoderEvent: Equatable {
    case accepted
    case request(RequestHead)
    case interim(ResponseHead)
    case response(ResponseHead)
    case data(String)
    case trailers(FieldSection)
    case end
}

extension [DecoderEvent] {
    mutating func add(data bytes: ByteBuffer) {
        precondition(bytes.readableBytes > 0)
        if case .data(let before) = last {
            self[count - 1] = .data(before + String(buffer: bytes))
        } else {
            append(.data(String(buffer: bytes)))
        }
    }
}

extension RequestDecoder {
    mutating func drain(into events: inout [DecoderEvent]) throws {
        while let event = try next() {
            switch event {
            case .head(let head): events.append(.request(head))
            case .data(let bytes): events.add(data: bytes)
            case .trailers(let fields): events.append(.trailers(fields))
            case .end: events.append(.end)
            }
        }
    }
}

extension ResponseDecoder {
    mutating func drain(into events: inout [DecoderEvent]) throws {
        while let event = try next() {
            switch event {
            case .accepted: events.append(.accepted)
            case .interim(let head): events.append(.interim(head))
            case .head(let head): events.append(.response(head))
            case .data(let bytes): events.add(data: bytes)
            case .trailers(let fields): events.append(.trailers(fields))
            case .end: events.append(.end)
            }
        }
    }
}

/// Decodes pieces and then FIN.
func decodeRequest(_ pieces: [ByteBuffer], fin: Bool = true) throws -> [DecoderEvent] {
    var decoder = RequestDecoder()
    var events: [DecoderEvent] = []
    for piece in pieces {
        decoder.feed(piece)
        try decoder.drain(into: &events)
    }
    if fin {
        try decoder.finish()
        try decoder.drain(into: &events)
    }
    return events
}

func decodeResponse(_ pieces: [ByteBuffer], method: String = "GET", fin: Bool = true) throws -> [DecoderEvent] {
    var decoder = ResponseDecoder(method: method)
    var events: [DecoderEvent] = []
    for piece in pieces {
        decoder.feed(piece)
        try decoder.drain(into: &events)
    }
    if fin {
        try decoder.finish()
        try decoder.drain(into: &events)
    }
    return events
}

extension ByteBuffer {
    /// Builds a value with one closure, for a one-line fixture.
    static func made(_ write: (inout ByteBuffer) throws -> Void) rethrows -> ByteBuffer {
        var buffer = ByteBuffer()
        try write(&buffer)
        return buffer
    }

    func cut(at index: Int) -> [ByteBuffer] {
        [getSlice(at: readerIndex, length: index)!, getSlice(at: readerIndex + index, length: readableBytes - index)!]
    }

    /// The bytes, each in its own buffer.
    var crumbs: [ByteBuffer] { readableBytesView.map { ByteBuffer(bytes: [$0]) } }

    var hex: String {
        readableBytesView.map { byte in
            let text = String(byte, radix: 16)
            return text.count == 1 ? "0" + text : text
        }.joined()
    }
}

/// A small reproducible generator (SplitMix64).
struct Seeded: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

let sampleRequest = RequestHead(
    requestID: RequestID(rawValue: 0x0001_0203_0405_0607_0809_0A0B_0C0D_0E0F),
    attempt: 2,
    run: RunID(rawValue: 0xF0F1_F2F3_F4F5_F6F7_F8F9_FAFB_FCFD_FEFF),
    method: "POST",
    scheme: "https",
    authority: "app.test",
    path: "/a?b=%20",
    service: "web",
    deadline: .milliseconds(30_000),
    traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    fields: FieldSection(["Content-Length": "10", "Cookie": "a=1", "cookie": "b=2", "X-Empty": ""])
)
