import NIOCore
import Outbound
import TestSupport
import Testing

extension OutboundTests {
    @Suite("Time limits")
    struct TimeoutTests {
        private static let short = 150

        private func code(_ url: String, connect: Int = 10_000, total: Int = 10_000) async -> OutboundError? {
            await withClient {
                $0.connect = .milliseconds(Int64(connect))
                $0.total = .milliseconds(Int64(total))
            } _: { client in
                let start = ContinuousClock.now
                let error = await failure(client, OutboundRequest(.get, url))
                #expect(ContinuousClock.now - start < .seconds(5))
                return error
            }
        }

        @Test("A server that does not accept the connection fails the request after the connect timeout")
        func connecting() async throws {
            let port = SilentPort()
            let error = try #require(await code("http://127.0.0.1:\(port.port)/", connect: Self.short))
            #expect(error.code == .timeout(.connect))
            #expect(!error.mayHaveArrived)
        }

        @Test("A server that is silent in the handshake fails the request after the connect timeout")
        func handshake() async throws {
            let server = try await HostileServer()
            let error = try #require(await code("https://127.0.0.1:\(server.port)/", connect: Self.short))
            #expect(error.code == .timeout(.tls))
            #expect(!error.mayHaveArrived)
            await server.stop()
        }

        @Test("A server that does not respond fails the request after the total timeout")
        func answering() async throws {
            let server = try await HostileServer { _ in }
            let error = try #require(await code(server.url(), total: Self.short))
            #expect(error.code == .timeout(.response))
            #expect(error.mayHaveArrived)
            await server.stop()
        }

        @Test("Bytes that arrive slowly do not extend the timeout", arguments: ["X: a\r\n", "\r\na"])
        func dripping(_ piece: String) async throws {
            let server = try await HostileServer { conversation in
                conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n")
                conversation.sendForever(Array(piece.utf8), pause: .milliseconds(20))
            }
            let error = try #require(await code(server.url(), total: Self.short))
            #expect(error.code == .timeout(.body))
            await server.stop()
        }

        @Test("Redirects share the timeout of their request")
        func redirected() async throws {
            let server = try await HostileServer { conversation in
                conversation.channel.eventLoop.scheduleTask(in: .milliseconds(100)) {
                    conversation.send("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")
                }
            }
            let error = try #require(await code(server.url(), total: 250))
            #expect(error.code == .timeout(.response))
            await server.stop()
        }

        @Test("A request may shorten the timeout, not extend it")
        func own() async throws {
            let server = try await HostileServer { _ in }
            await withClient {
                $0.total = .milliseconds(300)
            } _: { client in
                let start = ContinuousClock.now
                _ = await failure(client, OutboundRequest(.get, server.url(), timeout: .milliseconds(20)))
                #expect(ContinuousClock.now - start < .milliseconds(280))
                let error = await failure(client, OutboundRequest(.get, server.url(), timeout: .hours(1)))
                #expect(error?.code == .timeout(.response))
            }
            await server.stop()
        }

        @Test("The time in the queue counts towards the timeout")
        func waiting() async throws {
            let server = try await HostileServer { _ in }
            try await withClient {
                $0.active = 1
            } _: { client in
                let first = Task { await failure(client, OutboundRequest(.get, server.url())) }
                try await eventually("the first is under way") { server.requests.count == 1 }
                let request = OutboundRequest(.get, server.url(), timeout: .milliseconds(50))
                let error = try #require(await failure(client, request))
                #expect(error.code == .timeout(.queue))
                #expect(!error.mayHaveArrived)
                first.cancel()
                #expect(await first.value?.code == .cancelled)
            }
            #expect(server.requests.count == 1)
            await server.stop()
        }

        @Test("An unknown name is a DNS error or a timeout")
        func unknownName() async throws {
            let error = try #require(await code("https://hopgate-test.invalid/", connect: 1_000))
            #expect(error.code == .dns || error.code == .timeout(.lookup), "\(error)")
            #expect(!error.mayHaveArrived)
        }
    }
}
