import Agent
import HopProtocol
import NIOCore
import Testing

struct OriginResponseParserTests {
    /// An event of a parser. Consecutive pieces of a body are joined.
    enum ParsedEvent: Equatable {
        case interim(Int)
        case head(Int, [String])
        case body(String)
        case end([String]?)
    }

    static func parse(_ pieces: [String], method: String = "GET", eof: Bool = false) throws -> [ParsedEvent] {
        try parse(pieces.map { Array($0.utf8) }, method: method, eof: eof)
    }

    static func parse(_ pieces: [[UInt8]], method: String = "GET", eof: Bool = false) throws -> [ParsedEvent] {
        var parser = OriginResponseParser()
        parser.begin(method: method)
        var events: [ParsedEvent] = []
        func append(_ event: OriginResponseParser.Event) {
            switch event {
            case .interim(let head): events.append(.interim(head.status))
            case .head(let head): events.append(.head(head.status, head.fields.map { "\($0.name)=\($0.value)" }))
            case .body(let bytes):
                if case .body(let before) = events.last {
                    events[events.count - 1] = .body(before + String(buffer: bytes))
                } else {
                    events.append(.body(String(buffer: bytes)))
                }
            case .end(let trailers): events.append(.end(trailers?.map { "\($0.name)=\($0.value)" }))
            }
        }
        for piece in pieces {
            parser.feed(ByteBuffer(bytes: piece))
            while let event = try parser.next() { append(event) }
        }
        if eof, let event = try parser.finish() { append(event) }
        return events
    }

    static let responses: [(String, [ParsedEvent])] = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            [.head(200, ["Content-Length=3"]), .body("abc"), .end(nil)]
        ),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", [.head(200, ["Content-Length=0"]), .end(nil)]),
        ("HTTP/1.1 204 \r\n\r\n", [.head(204, []), .end(nil)]),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 404 No\r\ncontent-length:1\r\n\r\nx",
            [.interim(100), .interim(103), .head(404, ["content-length=1"]), .body("x"), .end(nil)]
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: \t b c \t\r\n\r\n3\r\nabc\r\n0A ;q=\"1\"\r\n0123456789\r\n000\r\n"
                + "T: 1\r\nu:2\r\n\r\n",
            [.head(200, ["A=b c"]), .body("abc0123456789"), .end(["T=1", "u=2"])]
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: close, X-A ,,\"\r\nx-a: 1\r\nX-B: 2\r\nProxy-Connection: x\r\n"
                + "Content-Length: 0\r\n\r\n",
            [.head(200, ["X-B=2", "Content-Length=0"]), .end(nil)]
        ),
    ]

    @Test("A response parses the same whole, split at any byte, and byte by byte")
    func everySplit() throws {
        for (text, events) in Self.responses {
            let bytes = Array(text.utf8)
            #expect(try Self.parse([bytes]) == events)
            for index in bytes.indices {
                #expect(try Self.parse([Array(bytes[..<index]), Array(bytes[index...])]) == events)
            }
            #expect(try Self.parse(bytes.map { [$0] }) == events)
        }
    }

    @Test("The end of the connection within a response is truncated")
    func everyEnd() throws {
        for (text, _) in Self.responses {
            let bytes = Array(text.utf8)
            for index in 0..<bytes.count {
                #expect(throws: OriginError.self) { try Self.parse([Array(bytes[..<index])], eof: true) }
            }
        }
    }

    @Test("Chunks that never end with the input occupy no more memory, however many there are")
    func memory() throws {
        var parser = OriginResponseParser()
        parser.begin(method: "GET")
        parser.feed(ByteBuffer(string: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3"))
        let rest = "E8\r\n" + String(repeating: "x", count: 1_000) + "\r\n3"
        for _ in 0..<1_000 {
            parser.feed(ByteBuffer(string: rest))
            while try parser.next() != nil {}
        }
        #expect(parser.removeInput().storageCapacity <= 16 * 1024)
    }

    @Test("A body without framing is delimited by the end of the connection")
    func untilClose() throws {
        #expect(
            try Self.parse(["HTTP/1.1 200 OK\r\n\r\n", "ab", "c"], eof: true)
                == [.head(200, []), .body("abc"), .end(nil)]
        )
        #expect(try Self.parse(["HTTP/1.1 200 OK\r\n\r\nabc"]) == [.head(200, []), .body("abc")])
    }

    @Test("A response to HEAD has no body, regardless of its fields")
    func head() throws {
        #expect(
            try Self.parse(["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"], method: "HEAD")
                == [.head(200, ["Content-Length=9"]), .end(nil)]
        )
        #expect(
            try Self.parse(["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"], method: "HEAD")
                == [.head(200, []), .end(nil)]
        )
    }

    @Test("Bytes behind a response are an error")
    func extra() {
        #expect(throws: OriginError.self) { try Self.parse(["HTTP/1.1 204 X\r\n\r\nx"]) }
    }

    @Test("Input that two parsers could read differently is rejected", arguments: hostile)
    func refused(text: String) {
        #expect(throws: OriginError.self) { try Self.parse([text]) }
        #expect(throws: OriginError.self) { try Self.parse(text.utf8.map { [$0] }) }
    }

    static let hostile: [String] = {
        let statusLines = [
            "HTTP/1.1 20 OK", "HTTP/1.1  200 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 200OK", "HTTP/1.1 099 X",
            "HTTP/2 200 OK",
            "HTTP/2.0 200 OK", "HTTP/1.2 200 OK", "http/1.1 200 OK", " HTTP/1.1 200 OK", "HTTP/1.1\t200 OK", "200 OK",
            "HTTP/1.1 200 a\u{0}b", "HTTP/1.1 200 a\rb", "HTTP/0.9 200 OK", "HTTP/1.1 +20 OK", "ICY 200 OK 1234",
        ].map { "\($0)\r\nContent-Length: 0\r\n\r\n" }
        let fields = [
            "Content-Length: 1\r\nContent-Length: 1", "Content-Length: 1, 1", "Content-Length: -1",
            "Content-Length: +1",
            "Content-Length: ", "Content-Length: 1 1", "Content-Length: 9223372036854775808", "Content-Length: 0x1",
            "Content-Length: 1\r\nTransfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: identity", "Transfer-Encoding: xchunked", "Transfer-Encoding: chunked;q=1", "A : b",
            " A: b", "A", ": b", "A: b\r\n c", "A: b\r\n\tc", "A: \u{0}", "A: b\rc", "A\u{0}: b", "(A): b",
            "A: b\n B: c",
        ].map { "HTTP/1.1 200 OK\r\n\($0)\r\n\r\n" }
        let chunks = [
            "\r\n", "x\r\n", "-1\r\n", "+1\r\n", "0x1\r\nx\r\n", "1\nx\r\n", "1\r\nxy\r\n", "1\r\nx\n0\r\n",
            "1 1\r\nx\r\n",
            "10000000000000000\r\n", "8000000000000000\r\n", "1;a\u{0}\r\nx\r\n", " 1\r\nx\r\n", "1\r\r\nx\r\n",
            "0\r\nContent-Length: 1\r\n\r\n", "0\r\nHost: a\r\n\r\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "0\r\nA : b\r\n\r\n", "0\r\n\nx\r\n\r\n", "1;" + String(repeating: "a", count: 5_000) + "\r\nx\r\n",
            "0\r\n" + String(repeating: "A: b\r\n", count: 33) + "\r\n",
            "0\r\nA: " + String(repeating: "b", count: 9_000) + "\r\n\r\n",
        ].map { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\($0)" }
        let long = [
            "HTTP/1.1 200 OK\r\nA: " + String(repeating: "b", count: 90_000) + "\r\n\r\n",
            "HTTP/1.1 200 " + String(repeating: "b", count: 90_000),
            "HTTP/1.1 200 OK\r\n" + String(repeating: "A: b\r\n", count: 300) + "\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ]
        return statusLines + fields + chunks + long
    }()

    @Test("Keep-alive depends on version, Connection and framing")
    func keepAlive() throws {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: a, close\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", true),
            ("HTTP/1.1 304 X\r\n\r\n", true),
        ] {
            var parser = OriginResponseParser()
            parser.begin(method: "GET")
            parser.feed(ByteBuffer(string: text))
            while try parser.next() != nil {}
            #expect(parser.isIdle)
            #expect(parser.isKeptAlive == expected, "\(text)")
        }
    }

    @Test("Damaged responses parse or throw, and never trap")
    func damaged() {
        var state: UInt64 = 3
        func random(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        for (text, _) in Self.responses {
            for _ in 0..<3_000 {
                var bytes = Array(text.utf8)
                for _ in 0...random(3) { bytes[random(bytes.count)] = UInt8(random(256)) }
                let cut = random(bytes.count)
                _ = try? Self.parse([Array(bytes[..<cut]), Array(bytes[cut...])], eof: true)
            }
        }
    }
}
