import HopProtocol
import NIOCore
import OriginHTTP1

/// Checks that a head that the tunnel's decoder accepts becomes exactly one HTTP/1.1 head, with the requested framing
/// and without anything that an origin could parse as a second request.
func checkRequest(_ payload: [UInt8], _ choice: UInt8) {
    var stream = ByteBuffer()
    stream.writeVarInt(1)
    stream.writeVarInt(UInt64(payload.count))
    stream.writeBytes(payload)
    var decoder = RequestDecoder()
    decoder.feed(stream)
    guard case .head(let head) = try? decoder.next() else { return }
    let framing: OriginRequest.Framing =
        switch choice & 3 {
        case 0: .none
        case 1: .length(payload.count)
        default: .chunked
        }
    var buffer = ByteBuffer()
    OriginRequest.writeHead(head, framing: framing, into: &buffer)
    precondition(
        buffer.readableBytes <= payload.count + 2 * head.fields.count + 160,
        "the output is larger than the input"
    )
    let lines = lines(buffer)
    let start = "\(head.method) \(head.path) HTTP/1.1"
    precondition(lines.first == Array(start.utf8), "the request line has changed")
    precondition(lines[0].count { $0 == 0x20 } == 2, "a request line of more than three parts")
    let names = lines.dropFirst().map { name(of: $0) }
    func count(_ name: String) -> Int { names.count { $0 == name } }
    precondition(names.first == "host" && count("host") == 1, "not exactly one Host")
    precondition(count("content-length") == (choice & 3 == 1 ? 1 : 0), "an unexpected Content-Length")
    precondition(count("transfer-encoding") == (choice & 3 >= 2 ? 1 : 0), "an unexpected Transfer-Encoding")
    precondition(count("connection") <= 1 && count("te") <= 1, "a repeated hop-by-hop field")
    checkTrailers(head.fields)
}

/// The lines before the empty line, which must be the last one.
private func lines(_ buffer: ByteBuffer) -> [[UInt8]] {
    var lines = buffer.readableBytesView.split(separator: 0x0A, omittingEmptySubsequences: false).map(Array.init)
    precondition(lines.popLast() == [], "a head that ends within a line")
    for index in lines.indices {
        precondition(
            lines[index].popLast() == 0x0D && !lines[index].contains(0x0D),
            "a line that does not end with CRLF"
        )
    }
    precondition(lines.popLast() == [] && !lines.contains([]), "an empty line within the head")
    return lines
}

private func name(of line: [UInt8]) -> String {
    let name = line.prefix { $0 != UInt8(ascii: ":") }
    precondition(name.count < line.count && name.withUnsafeBytes { ASCII.isToken($0) }, "a line that is not a field")
    return String(decoding: name, as: UTF8.self).lowercased()
}

/// Checks that the last chunk of a request parses like that of a response.
private func checkTrailers(_ fields: FieldSection) {
    guard fields.count <= 32, fields.bytes.readableBytes <= 4_096 else { return }
    var buffer = ByteBuffer(string: "HTTP/1.1 200\r\ntransfer-encoding: chunked\r\n\r\n")
    OriginRequest.writeLastChunk(isFirst: true, trailers: fields, into: &buffer)
    var parser = OriginResponseParser()
    parser.begin(method: "GET")
    parser.feed(buffer)
    do throws(OriginError) {
        while let event = try parser.next() {
            guard case .end(let trailers) = event else { continue }
            precondition(trailers?.count ?? 0 <= fields.count && parser.isIdle, "trailers that were not written")
            return
        }
        preconditionFailure("trailers without an end")
    } catch { preconditionFailure("trailers that are not valid HTTP: \(error)") }
}
