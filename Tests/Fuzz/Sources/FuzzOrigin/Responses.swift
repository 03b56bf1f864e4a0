import FuzzDriver
import HopProtocol
import NIOCore
import OriginHTTP1

/// An event of a parser. Consecutive pieces of a body are joined, because their boundaries depend on the network.
enum ParsedEvent: Equatable {
    case interim(ResponseHead)
    case head(ResponseHead)
    case body(ByteBuffer)
    case end(FieldSection?)
}

/// The result of parsing one response.
private struct ParsedResponse: Equatable {
    var method: String
    var events: [ParsedEvent] = []
    var failure: OriginError.Code?
    var isKeptAlive = false
    /// The bytes behind a 101.
    var rest = ByteBuffer()

    var isUpgraded: Bool { if case .head(let head) = events.last { head.status == 101 } else { false } }
    var isComplete: Bool { if case .end = events.last { true } else { isUpgraded } }

    init(
        _ exchange: FuzzedExchange,
        _ split: [Range<Int>],
        on parser: inout OriginResponseParser,
        isLast: Bool,
        eof: Bool
    ) {
        method = exchange.method
        parser.begin(method: exchange.method)
        precondition(!parser.hasResponseStarted, "a response without input")
        do throws(OriginError) {
            for range in split {
                guard let piece = exchange.response.getSlice(at: range.lowerBound, length: range.count) else {
                    continue
                }
                parser.feed(piece)
                precondition(
                    parser.hasResponseStarted || piece.readableBytes == 0,
                    "input that does not count as a response"
                )
                while let event = try parser.next() { append(event) }
            }
            if isUpgraded {
                rest = parser.removeInput()
            } else if isLast, eof {
                let wasComplete = isComplete
                let event = try parser.finish()
                precondition(event == nil || !wasComplete, "an event behind the end")
                if let event { append(event) }
                precondition(isComplete, "a response without an end")
            }
        } catch {
            failure = error.code
            // The part of an invalid body that is forwarded depends on when it is found to be invalid.
            if case .body = events.last { events.removeLast() }
        }
        isKeptAlive = failure == nil && parser.isKeptAlive && parser.isIdle
    }

    private mutating func append(_ event: OriginResponseParser.Event) {
        precondition(!isComplete, "an event behind the end")
        switch event {
        case .interim(let head): events.append(.interim(head))
        case .head(let head): events.append(.head(head))
        case .body(var bytes):
            precondition(bytes.readableBytes > 0, "an empty piece of a body")
            if case .body(var before) = events.last {
                events.removeLast()
                before.writeBuffer(&bytes)
                events.append(.body(before))
            } else {
                events.append(.body(bytes))
            }
        case .end(let trailers): events.append(.end(trailers))
        }
    }
}

/// Checks that the responses do not depend on how the input is split, that they parse the same after they have been
/// serialised, and that the tunnel's decoder accepts them.
func check(_ exchanges: [FuzzedExchange], eof: Bool, _ seed: UInt8) {
    let splits = exchanges.map { Splits.all(of: $0.response.readableBytes, seed: seed) }
    let responses = read(exchanges, splits.map { $0[0] }, eof: eof)
    for way in 1..<3 {
        precondition(read(exchanges, splits.map { $0[way] }, eof: eof) == responses, "the result depends on the split")
    }
    for (response, exchange) in zip(responses, exchanges) where response.isComplete && response.failure == nil {
        let written = serialised(response)
        // At most "transfer-encoding: chunked", the size and the end of one chunk, and a space behind each colon are
        // added.
        let fields = response.events.reduce(0) { $0 + $1.fieldCount }
        let most = exchange.response.readableBytes + 64 + fields + 2 * response.events.count
        precondition(written.readableBytes <= most, "the output is larger than the input")
        let again = FuzzedExchange(method: exchange.method, response: written)
        let reparsed = read([again], [[0..<written.readableBytes]], eof: false)
        precondition(
            reparsed.count == 1 && reparsed[0].events == response.events && reparsed[0].rest == response.rest,
            "serialising changed the response"
        )
        checkTunnel(response)
    }
}

private func read(_ exchanges: [FuzzedExchange], _ splits: [[Range<Int>]], eof: Bool) -> [ParsedResponse] {
    var parser = OriginResponseParser()
    var responses: [ParsedResponse] = []
    for (index, exchange) in exchanges.enumerated() {
        let isLast = index == exchanges.count - 1
        let response = ParsedResponse(exchange, splits[index], on: &parser, isLast: isLast, eof: eof)
        responses.append(response)
        guard response.isKeptAlive, response.isComplete else { break }
    }
    return responses
}

/// Serialises a response as HTTP/1.1.
private func serialised(_ response: ParsedResponse) -> ByteBuffer {
    var buffer = ByteBuffer()
    var isChunked = false
    for event in response.events {
        switch event {
        case .interim(let head), .head(let head):
            let isFinal = !head.isInterim && head.status != 101
            let hasBody = isFinal && response.method != "HEAD" && head.status != 204 && head.status != 304
            isChunked = hasBody && !head.fields.contains("content-length")
            buffer.writeString("HTTP/1.1 \(head.status)\r\n")
            write(head.fields, into: &buffer)
            if head.status == 101, head.fields.contains("upgrade") { buffer.writeString("connection: upgrade\r\n") }
            if isChunked { buffer.writeString("transfer-encoding: chunked\r\n") }
            buffer.writeString("\r\n")
        case .body(let bytes):
            if isChunked { OriginRequest.writeChunkHeader(bytes.readableBytes, isFirst: true, into: &buffer) }
            buffer.writeImmutableBuffer(bytes)
        case .end(let trailers):
            let isFirst = if case .body = response.events.dropLast().last { false } else { true }
            if isChunked { OriginRequest.writeLastChunk(isFirst: isFirst, trailers: trailers, into: &buffer) }
        }
    }
    buffer.writeImmutableBuffer(response.rest)
    return buffer
}

private func write(_ fields: FieldSection, into buffer: inout ByteBuffer) {
    fields.forEachBytes { name, value in
        for word in ["connection", "keep-alive", "transfer-encoding", "te", "proxy-connection"] {
            precondition(!ASCII.equalIgnoringCase(name, word), "a hop-by-hop field is forwarded")
        }
        buffer.writeBytes(name)
        buffer.writeString(": ")
        buffer.writeBytes(value)
        buffer.writeString("\r\n")
    }
}

/// Checks that the other end of the tunnel decodes the same response.
private func checkTunnel(_ response: ParsedResponse) {
    var buffer = ByteBuffer()
    MessageEncoder.writeAccepted(into: &buffer)
    do throws(HopError) {
        for event in response.events {
            switch event {
            case .interim(let head), .head(let head): try MessageEncoder.writeResponseHead(head, into: &buffer)
            case .body(let bytes): MessageEncoder.writeData(bytes, into: &buffer)
            case .end(let trailers): if let trailers { try MessageEncoder.writeTrailers(trailers, into: &buffer) }
            }
        }
        MessageEncoder.writeData(response.rest, into: &buffer)
        var decoder = ResponseDecoder(method: response.method)
        var events: [ParsedEvent] = []
        var trailers: FieldSection?
        decoder.feed(buffer)
        try decoder.finish()
        while let event = try decoder.next() {
            switch event {
            case .accepted: break
            case .interim(let head): events.append(.interim(head))
            case .head(let head): events.append(.head(head))
            case .data(let bytes): events.append(.body(bytes))
            case .trailers(let fields): trailers = fields
            case .end: if !response.isUpgraded { events.append(.end(trailers)) }
            }
        }
        let expected = response.events + (response.rest.readableBytes > 0 ? [.body(response.rest)] : [])
        precondition(events == expected, "the tunnel changed the response")
    } catch { preconditionFailure("the tunnel rejects a response: \(error)") }
}

extension ParsedEvent {
    fileprivate var fieldCount: Int {
        switch self {
        case .interim(let head), .head(let head): head.fields.count
        case .body: 0
        case .end(let trailers): trailers?.count ?? 0
        }
    }
}
