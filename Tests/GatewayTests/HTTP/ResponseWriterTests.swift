import Gateway
import HopProtocol
import NIOCore
import NIOHTTP1
import Testing

@Suite("Response writer")
struct ResponseWriterTests {
    private func write(
        _ status: Int,
        _ fields: KeyValuePairs<String, String>,
        version: HTTPVersion = .http1_1,
        isHead: Bool = false,
        keepsAlive: Bool = true
    ) throws -> (text: String, framing: ResponseFraming, keepsAlive: Bool) {
        var options = ResponseWriter.Options(version: version, isHead: isHead, keepsAlive: keepsAlive, date: "now")
        var buffer = ByteBuffer()
        let framing = try ResponseWriter.writeHead(status, FieldSection(fields), options: &options, into: &buffer)
        return (String(buffer: buffer), framing, options.keepsAlive)
    }

    @Test("Fields are forwarded in order, Set-Cookie is never merged, hop-by-hop fields are removed")
    func fields() throws {
        let written = try write(
            200,
            [
                "Content-Length": "3", "Set-Cookie": "a=1", "Set-Cookie": "b=2", "Connection": "close",
                "Transfer-Encoding": "chunked", "Keep-Alive": "x", "X_y": "z",
            ]
        )
        #expect(
            written.text
                == "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX_y: z\r\n"
                + "Date: now\r\n\r\n"
        )
        #expect(written.framing == .length(3))
        #expect(written.keepsAlive)
    }

    @Test("The framing follows from the status, the method, the length and the version")
    func framing() throws {
        #expect(try write(200, [:]).framing == .chunked)
        #expect(try write(200, [:]).text.hasSuffix("Transfer-Encoding: chunked\r\n\r\n"))
        #expect(try write(200, [:], isHead: true).framing == .bodyless)
        #expect(try !write(200, [:], isHead: true).text.contains("Transfer-Encoding"))
        #expect(try write(204, ["Content-Length": "0"]).framing == .bodyless)
        #expect(try !write(204, ["Content-Length": "0"]).text.contains("Content-Length"))
        #expect(try write(304, ["Content-Length": "9"]).text.contains("Content-Length: 9\r\n"))
        #expect(try write(101, ["Upgrade": "websocket"]).framing == .raw)
        let old = try write(200, [:], version: .http1_0)
        #expect(old.framing == .untilClose)
        #expect(!old.keepsAlive)
        #expect(old.text.hasSuffix("Connection: close\r\n\r\n"))
        let oldWithLength = try write(200, ["Content-Length": "1"], version: .http1_0)
        #expect(oldWithLength.text.hasSuffix("Connection: keep-alive\r\n\r\n"))
        #expect(try write(200, ["Content-Length": "1"], keepsAlive: false).text.hasSuffix("Connection: close\r\n\r\n"))
    }

    @Test("The origin's Date is kept, and two lengths are an error")
    func dateAndLength() throws {
        #expect(
            try write(200, ["date": "then", "Content-Length": "0"]).text.contains(
                "200 OK\r\ndate: then\r\nContent-Length"
            )
        )
        #expect(throws: HopError.self) { try write(200, ["Content-Length": "1", "Content-Length": "1"]) }
        #expect(throws: HopError.self) { try write(200, ["Content-Length": "-1"]) }
    }

    @Test("Chunk sizes are hexadecimal, and only harmless trailers follow the last chunk")
    func chunks() {
        var buffer = ByteBuffer()
        for size in [1, 15, 16, 255, 4_096, 65_536, Int.max] { ResponseWriter.writeChunkSize(size, into: &buffer) }
        #expect(String(buffer: buffer) == "1\r\nf\r\n10\r\nff\r\n1000\r\n10000\r\n7fffffffffffffff\r\n")
        var end = ByteBuffer()
        ResponseWriter.writeLastChunk(["grpc-status": "0", "Content-Length": "3", "Connection": "x"], into: &end)
        #expect(String(buffer: end) == "0\r\ngrpc-status: 0\r\n\r\n")
    }

    @Test("An error page is text, JSON or HTML, and names the request")
    func errorPages() {
        #expect(ErrorPage.Format(accept: "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8") == .html)
        #expect(ErrorPage.Format(accept: "application/json") == .json)
        #expect(ErrorPage.Format(accept: "*/*") == .text)
        #expect(ErrorPage.Format(accept: "image/png, text/html") == .html)
        for format in [ErrorPage.Format.text, .json, .html] {
            for refusal in ProxyError.allCases {
                let body = ErrorPage.body(refusal, requestID: "abc123", format: format)
                #expect(body.contains("abc123"))
                #expect(body.contains(String(refusal.status)))
            }
        }
    }
}

extension ResponseWriter {
    fileprivate static func writeLastChunk(_ trailers: KeyValuePairs<String, String>, into buffer: inout ByteBuffer) {
        writeLastChunk(FieldSection(trailers), into: &buffer)
    }
}
