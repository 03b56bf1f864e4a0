import Outbound
import TestSupport
import Testing

extension OutboundTests {
    @Suite("Connections that end early, and responses that are not HTTP")
    struct TruncationTests {
        /// The bytes that arrive before the connection ends.
        private static let stages = [
            "", "HTTP", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
        ]

        @Test(
            "A truncated response is never taken for a complete one",
            arguments: stages,
            ["close", "hang up", "reset"]
        )
        func cut(_ stage: String, _ way: String) async throws {
            for tls in [nil, TestAuthority.shared.server()] {
                let server = try await HostileServer(tls) { conversation in
                    if !stage.isEmpty { conversation.send(stage) }
                    switch way {
                    case "close": conversation.close()
                    case "hang up": conversation.hangUp()
                    default: conversation.reset()
                    }
                }
                try await withClient { client in
                    let request = OutboundRequest(.get, server.url(), trust: .pem(TestAuthority.shared.pem))
                    let error = try #require(await failure(client, request))
                    #expect(error.code == .truncated || error.code == .malformed, "\(error)")
                    #expect(error.mayHaveArrived)
                    #expect(error.isTransient)
                }
                await server.stop()
            }
        }

        @Test(
            "A body that ends with its connection is refused, since truncation would go unnoticed",
            arguments: [
                "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            ]
        )
        func truncation(_ head: String) async throws {
            let server = try await HostileServer(TestAuthority.shared.server()) { conversation in
                conversation.send(head + "half of it")
                conversation.hangUp()
            }
            let trust = OutboundTrust.pem(TestAuthority.shared.pem)
            await withClient { client in
                let error = await failure(client, OutboundRequest(.get, server.url(), trust: trust))
                #expect(error?.code == .malformed)
            }
            await server.stop()
        }

        @Test("If the connection ends before or during the TLS handshake, the request did not arrive")
        func cutHandshake() async throws {
            for garbage in ["", "\u{16}\u{3}\u{3}", "HTTP/1.1 400 Bad Request\r\n\r\n"] {
                let server = try await HostileServer(greeting: { conversation in
                    conversation.send(garbage)
                    conversation.close()
                })
                try await withClient { client in
                    let error = try #require(
                        await failure(client, OutboundRequest(.get, "https://127.0.0.1:\(server.port)/"))
                    )
                    #expect(error.code == .tls, "\(error)")
                    #expect(!error.mayHaveArrived)
                }
                await server.stop()
            }
        }

        @Test("If the port is closed, there is no connection and the request did not arrive")
        func refused() async throws {
            let server = try await HostileServer()
            await server.stop()
            try await withClient { client in
                let error = try #require(await failure(client, OutboundRequest(.get, server.url())))
                #expect(error.code == .connect)
                #expect(!error.mayHaveArrived)
            }
        }

        @Test(
            "Data that is not HTTP is refused",
            arguments: [
                "hello\r\n\r\n", "\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "{\"a\":1}", "HTTP/1.1 abc\r\n\r\n",
                "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabcde",
                "HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n",
                "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nab\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nab\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n",
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            ]
        )
        func garbage(_ text: String) async throws {
            let server = try await HostileServer { conversation in
                conversation.send(text)
                conversation.close()
            }
            try await withClient { client in
                let error = try #require(await failure(client, OutboundRequest(.get, server.url())))
                #expect(error.code == .malformed || error.code == .truncated, "\(error)")
                #expect(error.description.utf8.allSatisfy { (0x20...0x7E).contains($0) })
            }
            await server.stop()
        }
    }
}
