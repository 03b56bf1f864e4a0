import FuzzDriver
import HopProtocol
import NIOCore

/// An event of a decoder. Pieces of DATA are joined, since the network decides where they are split.
enum DecoderEvent: Equatable {
    case accepted
    case request(RequestHead)
    case response(ResponseHead)
    case data(ByteBuffer)
    case trailers(FieldSection)
    case end
}

/// A decoder of one direction of a request stream.
protocol MessageStream {
    mutating func feed(_ bytes: ByteBuffer)
    mutating func finish() throws(HopError)
    mutating func drainOverhead() -> Int
    mutating func nextEvent() throws(HopError) -> DecoderEvent?
}

struct RequestStream: MessageStream {
    private var decoder = RequestDecoder()

    init(isUpgraded: Bool) { if isUpgraded { decoder.upgraded() } }

    mutating func feed(_ bytes: ByteBuffer) { decoder.feed(bytes) }
    mutating func finish() throws(HopError) { try decoder.finish() }
    mutating func drainOverhead() -> Int { decoder.drainOverhead() }

    mutating func nextEvent() throws(HopError) -> DecoderEvent? {
        switch try decoder.next() {
        case .head(let head): .request(head)
        case .data(let bytes): .data(bytes)
        case .trailers(let fields): .trailers(fields)
        case .end: .end
        case nil: nil
        }
    }
}

struct ResponseStream: MessageStream {
    private var decoder: ResponseDecoder

    init(method: String) { decoder = ResponseDecoder(method: method) }

    mutating func feed(_ bytes: ByteBuffer) { decoder.feed(bytes) }
    mutating func finish() throws(HopError) { try decoder.finish() }
    mutating func drainOverhead() -> Int { decoder.drainOverhead() }

    mutating func nextEvent() throws(HopError) -> DecoderEvent? {
        switch try decoder.next() {
        case .accepted: return .accepted
        case .interim(let head):
            precondition(head.isInterim, "a final head is reported as interim")
            return .response(head)
        case .head(let head):
            precondition(!head.isInterim, "an interim head is reported as final")
            return .response(head)
        case .data(let bytes): return .data(bytes)
        case .trailers(let fields): return .trailers(fields)
        case .end: return .end
        case nil: return nil
        }
    }
}

/// The decoded content of a stream.
struct Decoded: Equatable {
    var events: [DecoderEvent] = []
    var failure: HopError?

    /// - Parameter isPatient: Whether nothing is read before everything, FIN included, has arrived.
    init(_ pieces: [ByteBuffer], isPatient: Bool = false, fin: Bool = true, from stream: consuming some MessageStream) {
        var overhead = 0
        do throws(HopError) {
            for piece in pieces {
                stream.feed(piece)
                if !isPatient { try drain(&stream, &overhead) }
            }
            if fin { try stream.finish() }
            try drain(&stream, &overhead)
        } catch {
            failure = error
            do throws(HopError) {
                _ = try stream.nextEvent()
                preconditionFailure("an error is not final")
            } catch { precondition(error == failure, "an error became another one") }
            // The point at which a bad body is detected decides how much of it is passed on.
            if case .data = events.last { events.removeLast() }
            return
        }
        precondition(fin == (events.last == .end), "a message without an end")
        let data = events.reduce(0) { if case .data(let bytes) = $1 { $0 + bytes.readableBytes } else { $0 } }
        let count = pieces.reduce(0) { $0 + $1.readableBytes }
        precondition(overhead + data == count, "flow-control credit is lost or made")
    }

    private mutating func drain(_ stream: inout some MessageStream, _ overhead: inout Int) throws(HopError) {
        while let next = try stream.nextEvent() {
            precondition(events.last != .end, "something behind the end")
            switch (next, events.last) {
            case (.data(var bytes), .data(var before)):
                precondition(bytes.readableBytes > 0, "empty data")
                events.removeLast()
                before.writeBuffer(&bytes)
                events.append(.data(before))
            default: events.append(next)
            }
        }
        overhead += stream.drainOverhead()
    }
}

/// Checks that every split yields the same result, and that its encoding yields it again.
func check<Stream: MessageStream>(_ bytes: ByteBuffer, _ seed: UInt8, _ stream: () -> Stream) {
    let decoded = Decoded([bytes], isPatient: true, from: stream())
    for split in Splits.all(of: bytes.readableBytes, seed: seed) {
        let pieces = split.compactMap { bytes.getSlice(at: $0.lowerBound, length: $0.count) }
        precondition(Decoded(pieces, from: stream()) == decoded, "the result depends on the split")
    }
    let again = encoded(decoded.events)
    // Frame headers at their longest.
    precondition(again.readableBytes <= bytes.readableBytes + 9 * decoded.events.count, "more out than in")
    let isComplete = decoded.failure == nil
    let decodedAgain = Decoded([again], fin: isComplete, from: stream())
    precondition(decodedAgain.failure == nil && decodedAgain.events == decoded.events, "encoding changed the message")
    // Equal texts need not be equal bytes.
    precondition(encoded(decodedAgain.events) == again, "encoding changed the bytes")
}

private func encoded(_ events: [DecoderEvent]) -> ByteBuffer {
    var buffer = ByteBuffer()
    do throws(HopError) {
        for event in events {
            switch event {
            case .accepted: MessageEncoder.writeAccepted(into: &buffer)
            case .request(let head):
                check(head.fields)
                try MessageEncoder.writeRequestHead(head, into: &buffer)
            case .response(let head):
                check(head.fields)
                try MessageEncoder.writeResponseHead(head, into: &buffer)
            case .data(let bytes): MessageEncoder.writeData(bytes, into: &buffer)
            case .trailers(let fields):
                check(fields)
                try MessageEncoder.writeTrailers(fields, into: &buffer)
            case .end: break
            }
        }
    } catch { preconditionFailure("what was decoded cannot be encoded: \(error)") }
    return buffer
}

/// Checks that the ways of reading a section agree, and that nothing in it can break out of an HTTP/1.1 line.
private func check(_ fields: FieldSection) {
    var copies = (FieldSection(), FieldSection())
    for field in fields { copies.0.append(field) }
    fields.forEachBytes { name, value in
        precondition(ASCII.isToken(name) && ASCII.isFieldValue(value), "a field that HTTP has not")
        copies.1.append(name: name, value: value)
    }
    precondition(copies.0 == copies.1 && copies.0.count == fields.count, "two readings of one section")
    precondition(copies.0.bytes.readableBytes <= fields.bytes.readableBytes, "more out than in")
    precondition(fields.all("cookie").first == fields.first("Cookie"), "two readings of one field")
    _ = try? fields.contentLength()
}
