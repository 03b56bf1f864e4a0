import NIOSSL
import Outbound
import TestSupport
import Testing

extension OutboundTests {
    @Suite("TLS and trust")
    struct TLSTests {
        private let trust = OutboundTrust.pem(TestAuthority.shared.pem)

        private func code(_ context: NIOSSLContext, trust: OutboundTrust, host: String = "127.0.0.1") async throws
            -> OutboundError.Code?
        {
            let server = try await HostileServer(context)
            let error = await withClient { client in
                await failure(client, OutboundRequest(.get, "https://\(host):\(server.port)/", trust: trust))
            }
            #expect(server.requests.isEmpty)
            #expect(error?.mayHaveArrived == false)
            await server.stop()
            return error?.code
        }

        @Test("A certificate of the given authority is accepted for its address and its name")
        func accepted() async throws {
            let server = try await HostileServer(TestAuthority.shared.server())
            let folder = ScratchFolder()
            defer { folder.remove() }
            let file = folder.write("root.pem", TestAuthority.shared.pem)
            try await withClient { client in
                for trust in [trust, .file(path: file)] {
                    for host in ["127.0.0.1", "localhost"] {
                        let url = "https://\(host):\(server.port)/"
                        let response = try await client.send(OutboundRequest(.get, url, trust: trust))
                        #expect(response.status == 200)
                    }
                }
            }
            await server.stop()
        }

        @Test("A certificate of another authority is refused")
        func wrongAuthority() async throws {
            let stranger = OutboundTrust.pem(TestAuthority.stranger.pem)
            #expect(try await code(TestAuthority.shared.server(), trust: stranger) == .certificate(.untrusted))
            #expect(try await code(TestAuthority.shared.server(), trust: .system) == .certificate(.untrusted))
        }

        @Test("An expired certificate is refused, and one that is not valid yet")
        func dates() async throws {
            let expired = TestAuthority.shared.server(hours: -3...(-2))
            #expect(try await code(expired, trust: trust) == .certificate(.expired))
            let early = TestAuthority.shared.server(hours: 2...3)
            #expect(try await code(early, trust: trust) == .certificate(.notYetValid))
        }

        @Test("A certificate for another name or address is refused")
        func wrongName() async throws {
            let other = TestAuthority.shared.server(["example.com"])
            #expect(try await code(other, trust: trust) == .certificate(.wrongName))
            #expect(try await code(other, trust: trust, host: "localhost") == .certificate(.wrongName))
            // A DNS name with the text of the address does not match the address.
            let lookalike = TestAuthority.shared.server(["DNS:127.0.0.1"])
            #expect(try await code(lookalike, trust: trust) == .certificate(.wrongName))
        }

        @Test("TLS 1.1 is refused, 1.2 and 1.3 are accepted")
        func versions() async throws {
            let old = TestAuthority.shared.server {
                $0.minimumTLSVersion = .tlsv1
                $0.maximumTLSVersion = .tlsv11
            }
            #expect(try await code(old, trust: trust) == .tls)
            for version in [TLSVersion.tlsv12, .tlsv13] {
                let server = try await HostileServer(
                    TestAuthority.shared.server {
                        $0.minimumTLSVersion = version
                        $0.maximumTLSVersion = version
                    }
                )
                try await withClient { client in
                    _ = try await client.send(OutboundRequest(.get, server.url(), trust: trust))
                }
                await server.stop()
            }
        }

        @Test("A kept connection is not used for a request with other trust anchors")
        func otherTrust() async throws {
            let server = try await HostileServer(TestAuthority.shared.server())
            try await withClient { client in
                _ = try await client.send(OutboundRequest(.get, server.url(), trust: trust))
                for other in [OutboundTrust.system, .pem(TestAuthority.stranger.pem)] {
                    let error = await failure(client, OutboundRequest(.get, server.url(), trust: other))
                    #expect(error?.code == .certificate(.untrusted))
                }
            }
            #expect(server.requests.count == 1)
            await server.stop()
        }

        @Test("A CA bundle that cannot be read is a distinct error")
        func badBundle() async throws {
            let server = try await HostileServer(TestAuthority.shared.server())
            try await withClient { client in
                for trust in [OutboundTrust.file(path: "/nonexistent/root.pem"), .pem(Array("no PEM".utf8)), .pem([])] {
                    let error = try #require(await failure(client, OutboundRequest(.get, server.url(), trust: trust)))
                    #expect(error.code == .trust, "\(error)")
                }
            }
            await server.stop()
        }
    }
}
