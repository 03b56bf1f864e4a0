import FuzzDriver
import HopProtocol
import NIOCore
import OriginHTTP1

/// What a parser said. Pieces of a body are joined: where they are cut is the network's business.
enum Said: Equatable {
    case interim(ResponseHead)
    case head(ResponseHead)
    case body(ByteBuffer)
    case end(FieldSection?)
}

/// All that came out of one answer.
private struct Answer: Equatable {
    var method: String
    var said: [Said] = []
    var failure: OriginError.Code?
    var isKeptAlive = false
    /// What follows a 101.
    var rest = ByteBuffer()

    var isUpgraded: Bool { if case .head(let head) = said.last { head.status == 101 } else { false } }
    var isComplete: Bool { if case .end = said.last { true } else { isUpgraded } }

    init(
        _ exchange: Exchange,
        _ split: [Range<Int>],
        on parser: inout OriginResponseParser,
        isLast: Bool,
        eof: Bool
    ) {
        method = exchange.method
        parser.begin(method: exchange.method)
        precondition(!parser.hasResponseStarted, "an answer out of nothing")
        do throws(OriginError) {
            for range in split {
                guard let piece = exchange.answer.getSlice(at: range.lowerBound, length: range.count) else { continue }
                parser.feed(piece)
                precondition(parser.hasResponseStarted || piece.readableBytes == 0, "bytes that are no answer")
                while let event = try parser.next() { take(event) }
            }
            if isUpgraded {
                rest = parser.removeInput()
            } else if isLast, eof {
                let wasComplete = isComplete
                let event = try parser.finish()
                precondition(event == nil || !wasComplete, "something behind the end")
                if let event { take(event) }
                precondition(isComplete, "an answer without an end")
            }
        } catch {
            failure = error.code
            // How much of a bad body is passed on depends on when it is found to be bad.
            if case .body = said.last { said.removeLast() }
        }
        isKeptAlive = failure == nil && parser.isKeptAlive && parser.isIdle
    }

    private mutating func take(_ event: OriginResponseParser.Event) {
        precondition(!isComplete, "something behind the end")
        switch event {
        case .interim(let head): said.append(.interim(head))
        case .head(let head): said.append(.head(head))
        case .body(var bytes):
            precondition(bytes.readableBytes > 0, "an empty piece of a body")
            if case .body(var before) = said.last {
                said.removeLast()
                before.writeBuffer(&bytes)
                said.append(.body(before))
            } else {
                said.append(.body(bytes))
            }
        case .end(let trailers): said.append(.end(trailers))
        }
    }
}

/// The same answers for every split, again from what they are written to, and none that the tunnel refuses.
func check(_ exchanges: [Exchange], eof: Bool, _ seed: UInt8) {
    let splits = exchanges.map { Splits.all(of: $0.answer.readableBytes, seed: seed) }
    let answers = read(exchanges, splits.map { $0[0] }, eof: eof)
    for way in 1..<3 {
        precondition(read(exchanges, splits.map { $0[way] }, eof: eof) == answers, "the result depends on the split")
    }
    for (answer, exchange) in zip(answers, exchanges) where answer.isComplete && answer.failure == nil {
        let written = written(answer)
        // "transfer-encoding: chunked", one chunk's size and its end, and per field a space behind the colon.
        let fields = answer.said.reduce(0) { $0 + $1.fieldCount }
        let most = exchange.answer.readableBytes + 64 + fields + 2 * answer.said.count
        precondition(written.readableBytes <= most, "more out than in")
        let again = Exchange(method: exchange.method, answer: written)
        let readAgain = read([again], [[0..<written.readableBytes]], eof: false)
        precondition(
            readAgain.count == 1 && readAgain[0].said == answer.said && readAgain[0].rest == answer.rest,
            "writing changed the answer"
        )
        checkTunnel(answer)
    }
}

private func read(_ exchanges: [Exchange], _ splits: [[Range<Int>]], eof: Bool) -> [Answer] {
    var parser = OriginResponseParser()
    var answers: [Answer] = []
    for (index, exchange) in exchanges.enumerated() {
        let isLast = index == exchanges.count - 1
        let answer = Answer(exchange, splits[index], on: &parser, isLast: isLast, eof: eof)
        answers.append(answer)
        guard answer.isKeptAlive, answer.isComplete else { break }
    }
    return answers
}

/// An HTTP/1.1 answer that says the same.
private func written(_ answer: Answer) -> ByteBuffer {
    var buffer = ByteBuffer()
    var isChunked = false
    for said in answer.said {
        switch said {
        case .interim(let head), .head(let head):
            let isFinal = !head.isInterim && head.status != 101
            let hasBody = isFinal && answer.method != "HEAD" && head.status != 204 && head.status != 304
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
            let isFirst = if case .body = answer.said.dropLast().last { false } else { true }
            if isChunked { OriginRequest.writeLastChunk(isFirst: isFirst, trailers: trailers, into: &buffer) }
        }
    }
    buffer.writeImmutableBuffer(answer.rest)
    return buffer
}

private func write(_ fields: FieldSection, into buffer: inout ByteBuffer) {
    fields.forEachBytes { name, value in
        for word in ["connection", "keep-alive", "transfer-encoding", "te", "proxy-connection"] {
            precondition(!ASCII.equalIgnoringCase(name, word), "a field of the connection is passed on")
        }
        buffer.writeBytes(name)
        buffer.writeString(": ")
        buffer.writeBytes(value)
        buffer.writeString("\r\n")
    }
}

/// The other end of the tunnel takes what is passed on and hears the same.
private func checkTunnel(_ answer: Answer) {
    var buffer = ByteBuffer()
    MessageEncoder.writeAccepted(into: &buffer)
    do throws(HopError) {
        for said in answer.said {
            switch said {
            case .interim(let head), .head(let head): try MessageEncoder.writeResponseHead(head, into: &buffer)
            case .body(let bytes): MessageEncoder.writeData(bytes, into: &buffer)
            case .end(let trailers): if let trailers { try MessageEncoder.writeTrailers(trailers, into: &buffer) }
            }
        }
        MessageEncoder.writeData(answer.rest, into: &buffer)
        var decoder = ResponseDecoder(method: answer.method)
        var said: [Said] = []
        var trailers: FieldSection?
        decoder.feed(buffer)
        try decoder.finish()
        while let event = try decoder.next() {
            switch event {
            case .accepted: break
            case .interim(let head): said.append(.interim(head))
            case .head(let head): said.append(.head(head))
            case .data(let bytes): said.append(.body(bytes))
            case .trailers(let fields): trailers = fields
            case .end: if !answer.isUpgraded { said.append(.end(trailers)) }
            }
        }
        let expected = answer.said + (answer.rest.readableBytes > 0 ? [.body(answer.rest)] : [])
        precondition(said == expected, "the tunnel changed the answer")
    } catch { preconditionFailure("the tunnel does not take an answer: \(error)") }
}

extension Said {
    fileprivate var fieldCount: Int {
        switch self {
        case .interim(let head), .head(let head): head.fields.count
        case .body: 0
        case .end(let trailers): trailers?.count ?? 0
        }
    }
}
