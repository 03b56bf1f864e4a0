import NIOCore
import Outbound
import Synchronization
import TestSupport
import Testing

extension OutboundTests {
    @Suite("Concurrent requests, and closing a client")
    struct TransferQueueTests {
        /// Holds back all responses until it is opened.
        private final class Gate: Sendable {
            private let held = Mutex<[Conversation]?>([])

            func hold(_ conversation: Conversation) {
                let isOpen = held.withLock { held in
                    held?.append(conversation)
                    return held == nil
                }
                if isOpen { Self.answer(conversation) }
            }

            func open() {
                let all = held.withLock { held in
                    defer { held = nil }
                    return held ?? []
                }
                for conversation in all { Self.answer(conversation) }
            }

            private static func answer(_ conversation: Conversation) {
                conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            }
        }

        private final class Counter: Sendable {
            private let count = Mutex(0)

            var value: Int { count.withLock { $0 } }

            func add() { count.withLock { $0 += 1 } }
        }

        @Test("Of 1,000 concurrent requests those beyond the bound fail at once and the others get a response")
        func thousand() async throws {
            let gate = Gate()
            let server = try await HostileServer { gate.hold($0) }
            let refused = Counter()
            try await withClient { client in
                let answered = try await withThrowingTaskGroup(of: Bool.self) { group in
                    for _ in 0..<1_000 {
                        group.addTask {
                            do throws(OutboundError) {
                                return try await client.send(OutboundRequest(.get, server.url())).status == 200
                            } catch {
                                #expect(error.code == .busy)
                                #expect(!error.mayHaveArrived)
                                refused.add()
                                return false
                            }
                        }
                    }
                    // All have been submitted and none has a response: 6 are active and 256 are queued.
                    try await eventually("all are refused, under way or waiting") {
                        refused.value + client.load.waiting + server.requests.count == 1_000
                            && server.requests.count == 6
                    }
                    gate.open()
                    return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
                }
                #expect(answered >= 256 && answered <= 262)
                #expect(answered + refused.value == 1_000)
                try await eventually("nothing is left") { client.load == (0, 0) }
            }
            #expect(server.mostOpen <= 6)
            await server.stop()
        }

        @Test("A server that hangs does not delay requests to another")
        func fairness() async throws {
            let hanging = try await HostileServer { _ in }
            let good = try await HostileServer()
            try await withClient { client in
                let stuck = (0..<50).map { _ in Task { await failure(client, OutboundRequest(.get, hanging.url())) } }
                try await eventually("they hang") { hanging.requests.count == 6 && client.load.waiting == 44 }
                _ = try await client.send(OutboundRequest(.get, good.url()))
                for task in stuck { task.cancel() }
                for task in stuck { #expect(await task.value?.code == .cancelled) }
            }
            await hanging.stop()
            await good.stop()
        }

        @Test("Closing ends queued, connecting and active requests; later requests fail; closing twice is harmless")
        func close() async throws {
            let server = try await HostileServer { _ in }
            let silent = SilentPort()
            let before = ProcessFacts.connecting(to: silent.port)
            let silentURL = "http://127.0.0.1:\(silent.port)/"
            let client = OutboundClient(userAgent: "hopgate/test", limits: OutboundLimits())
            let tasks = (0..<40).map { index in
                Task {
                    let url = index % 2 == 0 ? server.url() : silentURL
                    return await failure(client, OutboundRequest(.get, url))
                }
            }
            try await eventually("all are there") { client.load.waiting == 28 && server.requests.count == 6 }
            await client.close()
            #expect(client.load == (0, 0))
            for task in tasks { #expect(await task.value?.code == .closed) }
            #expect(await failure(client, OutboundRequest(.get, server.url()))?.code == .closed)
            await client.close()
            try await eventually("the server sees it") {
                server.open == 0 && ProcessFacts.connecting(to: silent.port) <= before
            }
            await server.stop()
        }

        @Test("A client may be closed concurrently, also if it was never used")
        func closers() async throws {
            let idle = OutboundClient(userAgent: "hopgate/test")
            await idle.close()
            let server = try await HostileServer()
            for _ in 0..<50 {
                let client = OutboundClient(userAgent: "hopgate/test")
                await withTaskGroup(of: Void.self) { group in
                    for index in 0..<8 {
                        group.addTask {
                            if index % 2 == 0 { return await client.close() }
                            _ = try? await client.send(OutboundRequest(.get, server.url()))
                        }
                    }
                }
                await client.close()
            }
            await server.stop()
        }

        @Test("After its idle time a client has no thread and no connection, and works again on the next request")
        func idle() async throws {
            let server = try await HostileServer()
            try await eventually("other clients are gone") { ProcessFacts.outboundThreads == 0 }
            try await withClient {
                $0.idle = .milliseconds(50)
            } _: { client in
                for _ in 0..<20 {
                    _ = try await client.send(OutboundRequest(.get, server.url()))
                    try await eventually("the thread has ended") {
                        ProcessFacts.outboundThreads == 0 && server.open == 0
                    }
                }
                #expect(server.connections == 20)
            }
            await server.stop()
        }

        @Test("A client that is released ends its thread")
        func letGo() async throws {
            let server = try await HostileServer()
            do {
                let client = OutboundClient(userAgent: "hopgate/test")
                _ = try await client.send(OutboundRequest(.get, server.url()))
                #expect(ProcessFacts.outboundThreads >= 1)
            }
            try await eventually("the thread has ended") { ProcessFacts.outboundThreads == 0 && server.open == 0 }
            await server.stop()
        }

        @Test("Neither success, failure nor cancellation leaves a thread or a descriptor behind")
        func leaks() async throws {
            let server = try await HostileServer(TestAuthority.shared.server()) { conversation in
                switch conversation.path {
                case "/ok": conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                case "/cut": conversation.reset()
                case "/large": conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
                default: break
                }
            }
            let trust = OutboundTrust.pem(TestAuthority.shared.pem)
            @Sendable func round() async {
                await withClient { client in
                    await withTaskGroup(of: Void.self) { group in
                        for path in ["/ok", "/cut", "/large", "/hang", "/hang"] {
                            group.addTask {
                                let request = OutboundRequest(
                                    .get,
                                    server.url(path),
                                    trust: trust,
                                    timeout: .milliseconds(path == "/hang" ? 20 : 10_000)
                                )
                                _ = try? await client.send(request)
                            }
                        }
                        let cancelled = Task {
                            _ = try? await client.send(OutboundRequest(.get, server.url("/hang"), trust: trust))
                        }
                        cancelled.cancel()
                        await cancelled.value
                    }
                }
            }
            await round()
            try await eventually("all is closed") { server.open == 0 && ProcessFacts.outboundThreads == 0 }
            let before = ProcessFacts.descriptors
            for _ in 0..<30 { await round() }
            try await eventually("no thread and no descriptor is left") {
                server.open == 0 && ProcessFacts.outboundThreads == 0 && ProcessFacts.descriptors <= before
            }
            await server.stop()
        }
    }
}
