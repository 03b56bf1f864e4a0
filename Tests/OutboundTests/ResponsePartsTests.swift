import Outbound
import Testing

extension OutboundTests {
    @Suite("Parsing of response heads")
    struct ResponsePartsTests {
        private func receive(_ lines: [String], limits: OutboundLimits = .init()) throws(ResponseFault) -> ResponseParts
        {
            var parts = ResponseParts(limits: limits)
            for line in lines { try parts.receive(line: Array(line.utf8), now: { 7 }) }
            return parts
        }

        @Test("Fields keep their order and duplicates, and are found case-insensitively")
        func fields() throws {
            let parts = try receive([
                "HTTP/2 200 OK\r\n", "Link: <a>\r\n", "Replay-Nonce:\t n \r\n", "LINK: <b>\r\n", "Empty:\r\n", "\r\n",
            ])
            #expect(parts.isComplete)
            #expect(parts.status == 200)
            #expect(parts.receivedAt == 7)
            #expect(parts.fields.all.map(\.name) == ["Link", "Replay-Nonce", "LINK", "Empty"])
            #expect(parts.fields.values("link") == ["<a>", "<b>"])
            #expect(parts.fields["replay-nonce"] == "n")
            #expect(parts.fields["EMPTY"] == "")
            #expect(parts.fields["other"] == nil)
        }

        @Test("Only the fields of the final response are kept, not those of an interim one")
        func interim() throws {
            let parts = try receive([
                "HTTP/1.1 103 Early Hints\r\n", "Link: <x>\r\n", "\r\n", "HTTP/1.1 204 No Content\r\n", "A: b\r\n",
                "\r\n",
            ])
            #expect(parts.status == 204)
            #expect(parts.fields.all.map(\.name) == ["A"])
        }

        @Test("Trailers count towards the limits and are dropped")
        func trailers() throws {
            var limits = OutboundLimits()
            limits.responseFields = 2
            let head = ["HTTP/2 200\r\n", "A: b\r\n", "\r\n"]
            let parts = try receive(head + ["T: u\r\n", "\r\n"], limits: limits)
            #expect(parts.fields.all.count == 1)
            #expect(throws: ResponseFault.headTooLarge) {
                try receive(head + ["T: u\r\n", "T: v\r\n"], limits: limits)
            }
        }

        @Test("The limits of bytes and fields are exact and include interim responses")
        func limits() throws {
            var limits = OutboundLimits()
            limits.responseHead = 30
            #expect(try receive(["HTTP/2 200 OK\r\n", "A: 45678901\r\n", "\r\n"], limits: limits).isComplete)
            #expect(throws: ResponseFault.headTooLarge) {
                try receive(["HTTP/2 200 OK\r\n", "A: 4567890123\r\n", "\r\n"], limits: limits)
            }
            #expect(throws: ResponseFault.headTooLarge) {
                try receive(Array(repeating: ["HTTP/1.1 100 \r\n", "\r\n"], count: 3).flatMap(\.self), limits: limits)
            }
        }

        @Test("A response needs explicit framing, unless it is HTTP/2 or has no body")
        func framing() throws {
            let status = "HTTP/1.1 200 OK\r\n"
            for fields in [
                "Content-Length: 5\r\n", "Transfer-Encoding: Chunked\r\n", "Transfer-Encoding: gzip , chunked\r\n",
            ] {
                #expect(try receive([status, fields, "\r\n"]).isComplete)
            }
            for other in ["HTTP/2 200\r\n", "HTTP/1.1 204 No Content\r\n", "HTTP/1.1 304 Not Modified\r\n"] {
                #expect(try receive([other, "\r\n"]).isComplete)
            }
            for fields in ["X: a\r\n", "Transfer-Encoding: gzip\r\n", "Transfer-Encoding: chunked, gzip\r\n"] {
                #expect(throws: ResponseFault.self) { try receive([status, fields, "\r\n"]) }
            }
            var head = ResponseParts(hasBody: false, limits: OutboundLimits())
            for line in [status, "\r\n"] { try head.receive(line: Array(line.utf8), now: { 0 }) }
            #expect(head.isComplete)
        }

        @Test("The limit of the body is exact")
        func body() throws {
            var limits = OutboundLimits()
            limits.responseBody = 4
            var parts = ResponseParts(limits: limits)
            try parts.receive(body: [1, 2])
            try parts.receive(body: [3, 4])
            #expect(throws: ResponseFault.bodyTooLarge) { try parts.receive(body: [5]) }
            #expect(parts.body == [1, 2, 3, 4])
        }

        @Test(
            "A malformed head is refused",
            arguments: [
                ["HTTP/1.1\r\n"], ["HTTP/1.1 20 OK\r\n"], ["HTTP/1.1 2000 OK\r\n"], ["HTTP/1.1 2x0 OK\r\n"],
                ["HTTP/1.1 099 OK\r\n"], ["ICY 200 OK\r\n"], ["\r\n"],
                ["HTTP/1.1 200 OK\r\n", "no colon\r\n"], ["HTTP/1.1 200 OK\r\n", ": value\r\n"],
                ["HTTP/1.1 200 OK\r\n", " folded: x\r\n"], ["HTTP/1.1 200 OK\r\n", "A : b\r\n"],
                ["HTTP/1.1 200 OK\r\n", "A: b\u{0}c\r\n"], ["HTTP/1.1 200 OK\r\n", "A: b\rc\r\n"],
            ]
        )
        func malformed(_ lines: [String]) {
            let error = #expect(throws: ResponseFault.self) { try receive(lines) }
            guard case .malformed = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
    }
}
