import Glibc
import Outbound
import Synchronization
import TestSupport
import Testing

extension OutboundTests {
    /// Tests of the proxy. The environment is shared by the whole process, so it names the proxy only during one of
    /// these tests.
    @Suite("Proxies")
    struct ProxyTests {
        private func withProxy(
            _ proxy: HostileServer,
            name: String = "HTTPS_PROXY",
            _ body: (OutboundClient) async throws -> Void
        ) async throws {
            let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"]
            let before = names.map { (name: $0, value: getenv($0).map { String(cString: $0) }) }
            for name in names { unsetenv(name) }
            setenv(name, "http://user:s3cret@127.0.0.1:\(proxy.port)", 1)
            defer {
                unsetenv(name)
                for (name, value) in before { if let value { setenv(name, value, 1) } }
            }
            try await withClient(usesProxy: true, body)
            await proxy.stop()
        }

        @Test("TLS goes through the proxy that the environment names to the server")
        func through() async throws {
            let tls = TestAuthority.shared.server(["ca.test"])
            let proxy = try await HostileServer { conversation in
                if conversation.request.hasPrefix("CONNECT ") {
                    conversation.send("HTTP/1.1 200 OK\r\nX-Proxy: a\r\n\r\n")
                    conversation.startTLS(tls)
                } else {
                    conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                }
            }
            try await withProxy(proxy) { client in
                let trust = OutboundTrust.pem(TestAuthority.shared.pem)
                let response = try await client.send(OutboundRequest(.get, "https://ca.test/a", trust: trust))
                #expect(response.body == Array("ok".utf8))
                #expect(response.fields["x-proxy"] == nil)
                #expect(proxy.requests[0].hasPrefix("CONNECT ca.test:443 HTTP/1.1\r\n"))
                #expect(proxy.requests[1].hasPrefix("GET /a HTTP/1.1\r\nHost: ca.test\r\n"))
                #expect(!proxy.requests[1].contains("Proxy-"))
            }
        }

        @Test("A proxy that refuses is a distinct error, which does not show the proxy's password")
        func refused() async throws {
            let proxy = try await HostileServer {
                $0.send("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            }
            try await withProxy(proxy) { client in
                let error = try #require(await failure(client, OutboundRequest(.get, "https://ca.test/")))
                #expect(error.code == .proxy, "\(error)")
                #expect(!error.mayHaveArrived)
                #expect(!error.description.contains("s3cret"))
            }
        }

        @Test("Loopback addresses are never reached through a proxy", arguments: ["HTTPS_PROXY", "ALL_PROXY"])
        func loopback(_ name: String) async throws {
            let proxy = try await HostileServer()
            let server = try await HostileServer()
            let secure = try await HostileServer(TestAuthority.shared.server())
            try await withProxy(proxy, name: name) { client in
                let trust = OutboundTrust.pem(TestAuthority.shared.pem)
                for url in [server.url(), secure.url(), "https://localhost:\(secure.port)/"] {
                    _ = try await client.send(OutboundRequest(.get, url, trust: trust))
                }
            }
            #expect(proxy.connections == 0)
            await server.stop()
            await secure.stop()
        }
    }
}
