import Outbound
import Testing

extension OutboundTests {
    @Suite("Validation of requests")
    struct CheckedRequestTests {
        @Test(
            "A URL that is not absolute ASCII is refused before it reaches libcurl",
            arguments: [
                "", "/path", "example.com/x", "https://", "https://exa mple.com/", "https://example.com/\r\nX: y",
                "https://example.com/\n", "https://example.com/\u{0}", "https://ex\u{e4}mple.com/",
                "nothing://example.com",
                "https://example.com:99999/", "file:///etc/passwd", "https://[::1/",
            ]
        )
        func badURL(_ url: String) async throws {
            try await withClient { client in
                let error = try #require(await failure(client, OutboundRequest(.get, url)))
                #expect(error.code == .invalidRequest)
                #expect(!error.mayHaveArrived)
                #expect(error.description.utf8.allSatisfy { (0x20...0x7E).contains($0) })
            }
        }

        @Test("A user name and a password in a URL are refused and never shown")
        func credentials() async throws {
            try await withClient { client in
                for url in ["https://eve:s3cret@example.com/a?s3cret=1", "https://s3cret@example.com/"] {
                    let error = try #require(await failure(client, OutboundRequest(.get, url)))
                    #expect(error.code == .invalidRequest)
                    #expect(!error.description.contains("s3cret"))
                    #expect(error.description.contains("example.com"))
                }
            }
        }

        @Test("A query is sent but not shown in errors")
        func query() async throws {
            try await withClient { client in
                let error = try #require(
                    await failure(client, OutboundRequest(.get, "http://example.com/a?key=s3cret"))
                )
                #expect(error.url == "http://example.com/a")
            }
        }

        @Test(
            "Any scheme but https is refused, except http to a loopback address",
            arguments: [
                "http://example.com/", "http://10.0.0.1/", "http://[::2]/", "http://localhost.example.com/",
                "http://128.0.0.1/", "ftp://127.0.0.1/", "gopher://127.0.0.1/",
                "http://127.0.0.1.example.com/",
            ]
        )
        func notHTTPS(_ url: String) async throws {
            try await withClient { client in
                let error = try #require(await failure(client, OutboundRequest(.get, url)))
                #expect(error.code == .notHTTPS)
            }
        }

        @Test("Every spelling of a loopback address may be requested by http")
        func loopback() async throws {
            let server = try await HostileServer()
            try await withClient { client in
                for host in ["127.0.0.1", "localhost", "LOCALHOST", "127.1", "2130706433"] {
                    let response = try await client.send(OutboundRequest(.get, "http://\(host):\(server.port)/"))
                    #expect(response.status == 200)
                }
            }
            await server.stop()
        }

        @Test(
            "A field that could inject another one is refused",
            arguments: [
                ("X-A", "a\r\nX-B: b"), ("X-A", "a\nb"), ("X-A", "a\rb"), ("X-A", "a\u{0}b"), ("X-A\r\nX-B", "b"),
                ("X A", "b"), ("", "b"), ("X:A", "b"), ("X-A", "\u{7F}"),
            ]
        )
        func badField(_ name: String, _ value: String) async throws {
            try await withClient { client in
                let request = OutboundRequest(.get, "https://127.0.0.1:1/", fields: [(name, value)])
                let error = try #require(await failure(client, request))
                #expect(error.code == .invalidRequest)
            }
        }

        @Test(
            "Fields that the client sets itself are refused",
            arguments: ["Host", "content-length", "Transfer-Encoding", "Connection", "User-Agent", "Expect"]
        )
        func reserved(_ name: String) async {
            await withClient { client in
                let request = OutboundRequest(.post, "https://127.0.0.1:1/", fields: [(name, "1")])
                #expect(await failure(client, request)?.code == .invalidRequest)
            }
        }

        @Test("Requests that are too large, and a get with a body, are refused")
        func tooLarge() async throws {
            let url = "https://127.0.0.1:1/"
            let requests = [
                OutboundRequest(.get, url, body: [1]),
                OutboundRequest(.post, url, body: [UInt8](repeating: 0, count: 1 << 20 + 1)),
                OutboundRequest(.get, url + String(repeating: "a", count: 8 << 10)),
                OutboundRequest(.get, url, fields: [("X-A", String(repeating: "a", count: 64 << 10))]),
            ]
            try await withClient { client in
                for request in requests {
                    let error = try #require(await failure(client, request))
                    #expect(error.code == .invalidRequest)
                }
            }
        }
    }
}
