import Outbound
import TestSupport
import Testing

extension OutboundTests {
    @Suite("Requests and responses")
    struct RequestTests {
        @Test("A request is sent as given, with the client's User-Agent and no other additions")
        func requestForm() async throws {
            let server = try await HostileServer()
            try await withClient { client in
                _ = try await client.send(
                    OutboundRequest(
                        .post,
                        server.url("/a/../b//c?d=%20e#f"),
                        fields: [("Content-Type", "application/jose+json"), ("X-Empty", ""), ("x-Two", "a b")],
                        body: Array("{\"a\":1}".utf8)
                    )
                )
                _ = try await client.send(OutboundRequest(.post, server.url()))
                _ = try await client.send(OutboundRequest(.get, server.url()))
            }
            let requests = server.requests
            let lines = requests[0].split(separator: "\r\n", omittingEmptySubsequences: false)
            #expect(lines[0] == "POST /a/../b//c?d=%20e HTTP/1.1")
            #expect(
                Set(lines.dropFirst().dropLast(2)) == [
                    "Host: 127.0.0.1:\(server.port)", "User-Agent: hopgate/test", "Accept: */*",
                    "Content-Type: application/jose+json", "X-Empty:", "x-Two: a b", "Content-Length: 7",
                ]
            )
            #expect(lines.last == "{\"a\":1}")
            #expect(requests[1].contains("\r\nContent-Length: 0\r\n"))
            #expect(!requests[1].contains("Content-Type"))
            #expect(requests[2].hasPrefix("GET / HTTP/1.1\r\n"))
            #expect(!requests[2].contains("Content-"))
            await server.stop()
        }

        @Test("Every method is sent under its name", arguments: [OutboundRequest.Method.put, .delete, .head])
        func methods(_ method: OutboundRequest.Method) async throws {
            let server = try await HostileServer {
                $0.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + ($0.request.hasPrefix("HEAD") ? "" : "ok"))
            }
            try await withClient { client in
                let body: [UInt8] = method == .head ? [] : [0x61, 0x62]
                let response = try await client.send(OutboundRequest(method, server.url(), body: body))
                #expect(response.body.count == (method == .head ? 0 : 2))
            }
            let request = try #require(server.requests.first)
            #expect(request.hasPrefix("\(method.rawValue) / HTTP/1.1\r\n"))
            #expect(request.hasSuffix(method == .head ? "\r\n\r\n" : "\r\n\r\nab"))
            await server.stop()
        }

        @Test("A response has its status, fields, arbitrary bytes of the body and its time of arrival")
        func responseForm() async throws {
            let body = (0...255).map { UInt8($0) }
            let server = try await HostileServer { conversation in
                conversation.send(
                    Array("HTTP/1.1 418 Teapot\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 256\r\n\r\n".utf8) + body
                )
            }
            let before = ProcessFacts.wallMilliseconds
            try await withClient { client in
                let response = try await client.send(OutboundRequest(.get, server.url("/x")))
                #expect(response.status == 418)
                #expect(response.fields.values("X-A") == ["1", "2"])
                #expect(response.body == body)
                #expect(response.url == server.url("/x"))
                #expect((before...ProcessFacts.wallMilliseconds).contains(response.receivedAt))
            }
            await server.stop()
        }

        @Test("A connection is kept for the next request, unless the request must not be sent twice")
        func reuse() async throws {
            let server = try await HostileServer(TestAuthority.shared.server())
            let trust = OutboundTrust.pem(TestAuthority.shared.pem)
            try await withClient { client in
                for _ in 0..<5 { _ = try await client.send(OutboundRequest(.get, server.url(), trust: trust)) }
                #expect(server.connections == 1)
                _ = try await client.send(OutboundRequest(.post, server.url(), trust: trust, mayRepeat: true))
                #expect(server.connections == 1)
                _ = try await client.send(OutboundRequest(.post, server.url(), trust: trust))
                #expect(server.connections == 2)
            }
            try await eventually("all connections are closed") { server.open == 0 }
            await server.stop()
        }

        @Test("A POST whose connection ends without a response is not sent again")
        func notRepeated() async throws {
            let server = try await HostileServer { conversation in
                if conversation.path == "/last" {
                    conversation.hangUp()
                } else {
                    conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                }
            }
            try await withClient { client in
                _ = try await client.send(OutboundRequest(.get, server.url()))
                let error = try #require(await failure(client, OutboundRequest(.post, server.url("/last"))))
                #expect(error.code == .truncated)
                #expect(error.mayHaveArrived)
            }
            #expect(server.requests.count { $0.hasPrefix("POST") } == 1)
            await server.stop()
        }

        @Test("Cookies are not kept")
        func cookies() async throws {
            let server = try await HostileServer {
                $0.send("HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
            }
            try await withClient { client in
                for _ in 0..<2 { _ = try await client.send(OutboundRequest(.get, server.url())) }
            }
            #expect(!server.requests[1].lowercased().contains("cookie"))
            await server.stop()
        }
    }
}
