import NIOCore
import Outbound
import TestSupport
import Testing

extension OutboundTests {
    @Suite("Cancellation")
    struct CancellationTests {
        /// Cancels a request three times when it has reached a stage. The fastest run counts, since other programs
        /// share the machine.
        private func cancel(
            _ client: OutboundClient,
            _ request: OutboundRequest,
            fileID: String = #fileID,
            line: Int = #line,
            sourceLocation: SourceLocation = #_sourceLocation,
            when isThere: () -> Bool,
            gone: () -> Bool
        ) async throws {
            var fastest = Duration.seconds(3_600)
            for _ in 0..<3 {
                let task = Task { await failure(client, request, sourceLocation: sourceLocation) }
                try await eventually("the request has come to its stage", fileID: fileID, line: line, isThere)
                let start = ContinuousClock.now
                task.cancel()
                let error = await task.value
                try await eventually("the transfer is gone", fileID: fileID, line: line) {
                    client.load.active == 0 && gone()
                }
                fastest = min(fastest, ContinuousClock.now - start)
                #expect(error?.code == .cancelled, sourceLocation: sourceLocation)
            }
            #expect(fastest < .milliseconds(100), sourceLocation: sourceLocation)
        }

        @Test("A request that is being connected ends at once")
        func connecting() async throws {
            let port = SilentPort()
            let before = ProcessFacts.connecting(to: port.port)
            try await withClient { client in
                try await cancel(client, OutboundRequest(.get, "http://127.0.0.1:\(port.port)/")) {
                    ProcessFacts.connecting(to: port.port) > before
                } gone: {
                    ProcessFacts.connecting(to: port.port) <= before
                }
            }
        }

        @Test("A request in its handshake ends at once")
        func handshake() async throws {
            let server = try await HostileServer()
            try await withClient { client in
                try await cancel(client, OutboundRequest(.get, "https://127.0.0.1:\(server.port)/")) {
                    server.open == 1
                } gone: {
                    server.open == 0
                }
            }
            await server.stop()
        }

        @Test("A request that waits for its response ends at once, and so does its connection")
        func waiting() async throws {
            let server = try await HostileServer(TestAuthority.shared.server()) { _ in }
            try await withClient { client in
                let request = OutboundRequest(.post, server.url(), trust: .pem(TestAuthority.shared.pem))
                var seen = 0
                try await cancel(client, request) {
                    server.requests.count > seen
                } gone: {
                    seen = server.requests.count
                    return server.open == 0
                }
            }
            #expect(server.requests.count == 3)
            await server.stop()
        }

        @Test("A response that is being received ends at once, and so does its connection")
        func receiving() async throws {
            let server = try await HostileServer { conversation in
                conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                conversation.sendForever([0x61], pause: .milliseconds(1))
            }
            try await withClient { client in
                var seen = 0
                try await cancel(client, OutboundRequest(.get, server.url())) {
                    server.requests.count > seen
                } gone: {
                    seen = server.requests.count
                    return server.open == 0
                }
            }
            await server.stop()
        }

        @Test("A queued request ends at once and is never sent")
        func queued() async throws {
            let server = try await HostileServer { _ in }
            try await withClient {
                $0.active = 1
            } _: { client in
                let first = Task { await failure(client, OutboundRequest(.get, server.url())) }
                try await eventually("the first is under way") { server.requests.count == 1 }
                let second = Task { await failure(client, OutboundRequest(.get, server.url())) }
                try await eventually("the second waits") { client.load.waiting == 1 }
                second.cancel()
                #expect(await second.value?.code == .cancelled)
                #expect(client.load.waiting == 0)
                first.cancel()
                #expect(await first.value?.code == .cancelled)
            }
            #expect(server.requests.count == 1)
            await server.stop()
        }

        @Test("A task that was cancelled before sends nothing")
        func before() async throws {
            let server = try await HostileServer()
            await withClient { client in
                let task = Task {
                    withUnsafeCurrentTask { $0?.cancel() }
                    return await failure(client, OutboundRequest(.get, server.url()))
                }
                #expect(await task.value?.code == .cancelled)
                #expect(client.load == (0, 0))
            }
            #expect(server.connections == 0)
            await server.stop()
        }
    }
}
