import Outbound
import Testing

extension OutboundTests {
    @Suite("Redirects")
    struct RedirectTests {
        /// A server whose `/N` redirects to `/N-1` and whose `/0` responds.
        private func countdown(_ status: Int = 302) async throws -> HostileServer {
            try await HostileServer { conversation in
                let left = Int(conversation.path.dropFirst())!
                let body = conversation.request.hasPrefix("HEAD") ? "" : "ok"
                conversation.send(
                    left == 0
                        ? "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\(body)"
                        : "HTTP/1.1 \(status) Found\r\nLocation: \(left - 1)\r\nContent-Length: 2\r\n\r\n\(body)"
                )
            }
        }

        private func redirecting(to location: String) async throws -> HostileServer {
            try await HostileServer {
                $0.send("HTTP/1.1 302 Found\r\nLocation: \(location)\r\nContent-Length: 0\r\n\r\n")
            }
        }

        @Test(
            "Three redirects are followed with the same fields, the fourth is not",
            arguments: [301, 302, 303, 307, 308]
        )
        func followed(_ status: Int) async throws {
            let server = try await countdown(status)
            try await withClient { client in
                for method in [OutboundRequest.Method.get, .head] {
                    let request = OutboundRequest(method, server.url("/3"), fields: [("X-A", "b")])
                    let response = try await client.send(request)
                    #expect(response.status == 200)
                    #expect(response.url == server.url("/0"))
                    #expect(server.requests.suffix(4).allSatisfy { $0.contains("X-A: b\r\n") })
                    #expect(server.requests.suffix(4).allSatisfy { $0.hasPrefix(method.rawValue) })
                }
                let error = await failure(client, OutboundRequest(.get, server.url("/4")))
                #expect(error?.code == .redirectRefused)
                #expect(server.connections == 1)
            }
            await server.stop()
        }

        @Test("A loop ends")
        func loop() async throws {
            let server = try await redirecting(to: "/")
            await withClient { client in
                let error = await failure(client, OutboundRequest(.get, server.url()))
                #expect(error?.code == .redirectRefused)
            }
            #expect(server.requests.count == 4)
            await server.stop()
        }

        @Test("Only GET and HEAD are redirected", arguments: [OutboundRequest.Method.post, .put, .delete])
        func notRepeated(_ method: OutboundRequest.Method) async throws {
            let server = try await countdown(308)
            try await withClient { client in
                let error = try #require(await failure(client, OutboundRequest(method, server.url("/1"), body: [1])))
                #expect(error.code == .redirectRefused)
                #expect(error.mayHaveArrived)
            }
            #expect(server.requests.count == 1)
            await server.stop()
        }

        @Test("A redirect to another host, port or scheme is refused and never requested")
        func elsewhere() async throws {
            let other = try await HostileServer()
            let port = other.port
            for location in [
                "http://127.0.0.1:\(port)/", "//127.0.0.1:\(port)/", "http://localhost:\(port)/",
                "https://example.com/",
                "file:///etc/passwd", "gopher://127.0.0.1:\(port)/", "http://127.0.0.1/",
            ] {
                let server = try await redirecting(to: location)
                await withClient { client in
                    let error = await failure(client, OutboundRequest(.get, server.url()))
                    #expect(error?.code == .redirectRefused, "\(location)")
                }
                #expect(server.requests.count == 1)
                await server.stop()
            }
            #expect(other.connections == 0)
            await other.stop()
        }

        @Test("A Location that is not a URL is refused")
        func badLocation() async throws {
            for location in [
                "http://eve:s3cret@127.0.0.1/", "\u{e4}", "http://[::1", String(repeating: "a", count: 9_000),
            ] {
                let server = try await redirecting(to: location)
                try await withClient { client in
                    let error = try #require(await failure(client, OutboundRequest(.get, server.url())))
                    #expect(error.code == .redirectRefused)
                    #expect(!error.description.contains("s3cret"))
                }
                await server.stop()
            }
        }

        @Test("A 3xx status that is not a redirect is the final response")
        func noRedirect() async throws {
            let server = try await HostileServer { conversation in
                conversation.send("HTTP/1.1 \(conversation.path.dropFirst()) X\r\nContent-Length: 0\r\n\r\n")
            }
            try await withClient { client in
                for status in [300, 302, 305, 308] {
                    let response = try await client.send(OutboundRequest(.get, server.url("/\(status)")))
                    #expect(response.status == status)
                }
            }
            await server.stop()
        }
    }
}
