import Glibc
import NIOCore
import NIOPosix
import Observability
import Synchronization
import Testing

@Suite("Ops server")
struct OpsServerTests {
    /// The state that the server's callbacks return.
    private final class Switches: Sendable {
        let healthy = Atomic<Bool>(true)
        let ready = Atomic<Bool>(true)
    }

    private func withServer(
        _ configuration: ResponderLimits = .init(),
        _ body: (_ port: Int, _ switches: Switches) throws -> Void
    ) async throws {
        let switches = Switches()
        let metrics = MetricsRegistry(namespace: "test")
        metrics.counter("events_total", help: "Events.").increment()
        let server = try await OpsServer.start(
            host: "127.0.0.1",
            port: 0,
            on: MultiThreadedEventLoopGroup.singleton.any(),
            sources: OpsSources(
                metrics: metrics,
                isHealthy: { switches.healthy.load(ordering: .relaxed) },
                readiness: {
                    Readiness([
                        .init("https", isReady: true, detail: "127.0.0.1:443"),
                        .init("certificate", isReady: switches.ready.load(ordering: .relaxed)),
                        .init("store", isReady: false, detail: "stalled", isRequired: false),
                    ])
                }
            ),
            limits: configuration
        )
        do {
            try body(try #require(server.localAddress.port), switches)
        } catch {
            await server.close()
            throw error
        }
        await server.close()
    }

    @Test("The probe of the commands returns status and body, or the reason of its failure")
    func probe() async throws {
        try await self.withServer { port, switches in
            let probe = OpsProbe(host: "0.0.0.0", port: port, path: "/readyz", seconds: 10)
            #expect(probe.url == "http://127.0.0.1:\(port)/readyz")
            let ready = try probe.send()
            #expect(ready.status == 200 && ready.body.hasPrefix(#"{"ready":true,"#))
            switches.ready.store(false, ordering: .relaxed)
            let unready = try probe.send()
            #expect(unready.status == 503 && unready.body.hasPrefix(#"{"ready":false,"#))
        }
        // Port 1 is closed.
        let closed = OpsProbe(host: "::1", port: 1, path: "/healthz", seconds: 10)
        let error = #expect(throws: OpsProbeError.self) { try closed.send() }
        #expect(error?.url == "http://[::1]:1/healthz")
    }

    @Test("Metrics are served in the text format")
    func metrics() async throws {
        try await self.withServer { port, _ in
            let answer = try RawClient(port: port).exchange(
                "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            )
            #expect(answer.hasPrefix("HTTP/1.1 200 "))
            #expect(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"))
            #expect(answer.hasSuffix("test_events_total 1\n"))
        }
    }

    @Test("Readiness lists all parts, and only required ones decide")
    func readiness() async throws {
        try await self.withServer { port, switches in
            let request = "GET /readyz?verbose HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            let ready = try RawClient(port: port).exchange(request)
            #expect(ready.hasPrefix("HTTP/1.1 200 "))
            #expect(
                ready.hasSuffix(
                    "{\"ready\":true,\"parts\":{\"https\":{\"ready\":true,\"detail\":\"127.0.0.1:443\"},"
                        + "\"certificate\":{\"ready\":true},\"store\":{\"ready\":false,\"detail\":\"stalled\"}}}\n"
                )
            )
            switches.ready.store(false, ordering: .relaxed)
            let unready = try RawClient(port: port).exchange(request)
            #expect(unready.hasPrefix("HTTP/1.1 503 "))
            #expect(unready.contains("{\"ready\":false,"))
        }
    }

    @Test("Health reflects the state of the process")
    func health() async throws {
        try await self.withServer { port, switches in
            let request = "GET /healthz HTTP/1.0\r\n\r\n"
            let healthy = try RawClient(port: port).exchange(request)
            #expect(healthy.hasPrefix("HTTP/1.1 200 "))
            switches.healthy.store(false, ordering: .relaxed)
            let unhealthy = try RawClient(port: port).exchange(request)
            #expect(unhealthy.hasPrefix("HTTP/1.1 503 "))
        }
    }

    @Test(
        "Everything else is refused",
        arguments: [
            ("GET / HTTP/1.1", "404"), ("GET /metrics/ HTTP/1.1", "404"), ("GET /admin HTTP/1.1", "404"),
            ("POST /metrics HTTP/1.1", "405"), ("DELETE /healthz HTTP/1.1", "405"), ("POST /x HTTP/1.1", "404"),
        ]
    )
    func refused(line: String, status: String) async throws {
        try await self.withServer { port, _ in
            let answer = try RawClient(port: port).exchange("\(line)\r\nhost: x\r\nconnection: close\r\n\r\n")
            #expect(answer.hasPrefix("HTTP/1.1 \(status) "))
        }
    }

    @Test("HEAD returns the fields without the body")
    func head() async throws {
        try await self.withServer { port, _ in
            let answer = try RawClient(port: port).exchange(
                "HEAD /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            )
            #expect(answer.contains("content-length: 3\r\n"))
            #expect(answer.hasSuffix("\r\n\r\n"))
        }
    }

    @Test("A connection serves several requests")
    func keepAlive() async throws {
        try await self.withServer { port, _ in
            let one = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
            let last = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            let answer = try RawClient(port: port).exchange(one + one + last)
            #expect(answer.split(separator: "HTTP/1.1 200 OK").count == 3)
        }
    }

    @Test("A request with a body is answered and its connection closed")
    func body() async throws {
        try await self.withServer { port, _ in
            let answer = try RawClient(port: port).exchange(
                "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nx"
            )
            #expect(answer.hasPrefix("HTTP/1.1 405 "))
            #expect(answer.contains("connection: close\r\n"))
        }
    }

    @Test(
        "Garbage gets 400 or nothing, and the connection ends",
        arguments: ["\u{16}\u{3}\u{1}\r\n\r\n", "GET\r\n\r\n"]
    )
    func garbage(bytes: String) async throws {
        try await self.withServer { port, _ in
            let answer = try RawClient(port: port).exchange(bytes)
            #expect(answer.isEmpty || answer.hasPrefix("HTTP/1.1 400 "))
        }
    }

    @Test("A connection without a request is closed")
    func timeout() async throws {
        var configuration = ResponderLimits()
        configuration.requestTimeout = .milliseconds(50)
        try await self.withServer(configuration) { port, _ in
            let answer = try RawClient(port: port).exchange("GET /healthz HTTP/1.1\r\n")
            #expect(answer == "")
        }
    }

    @Test("Connections beyond the limit are closed, and there is room again after others closed")
    func cap() async throws {
        var configuration = ResponderLimits()
        configuration.maximumConnections = 2
        try await self.withServer(configuration) { port, _ in
            let request = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
            let first = try RawClient(port: port)
            let second = try RawClient(port: port)
            #expect(try first.firstBytes(of: request).hasPrefix("HTTP/1.1 200 "))
            #expect(try second.firstBytes(of: request).hasPrefix("HTTP/1.1 200 "))
            #expect(try RawClient(port: port).firstBytes(of: request) == "")

            first.close()
            let deadline = NIODeadline.now() + .seconds(5)
            var answer = ""
            while answer.isEmpty, NIODeadline.now() < deadline {
                answer = try RawClient(port: port).firstBytes(of: request)
            }
            #expect(answer.hasPrefix("HTTP/1.1 200 "))
        }
    }

    @Test("A blocked event loop makes the process unhealthy")
    func loops() throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        defer { try? group.syncShutdownGracefully() }
        let metrics = MetricsRegistry(namespace: "test")
        let monitor = LoopMonitor(loops: [group.next()], metrics: metrics, interval: .milliseconds(1))
        #expect(monitor.allLoopsAreResponsive(within: .seconds(10)))
        #expect(!monitor.allLoopsAreResponsive(within: .seconds(10), now: .now() + .seconds(20)))

        let deadline = NIODeadline.now() + .seconds(5)
        var shown = ""
        repeat {
            var buffer = ByteBuffer()
            metrics.write(into: &buffer)
            shown = String(buffer: buffer)
        } while shown.contains("test_event_loop_lag_seconds_count 0\n") && NIODeadline.now() < deadline
        #expect(shown.contains("test_event_loop_lag_seconds_count"))
        #expect(!shown.contains("test_event_loop_lag_seconds_count 0\n"))
        monitor.stop()
    }
}

/// A blocking TCP client; every wait ends after five seconds.
private final class RawClient {
    private var descriptor: Int32

    init(port: Int) throws {
        self.descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        try #require(self.descriptor >= 0)
        var timeout = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(self.descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(self.descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(result == 0)
    }

    deinit { self.close() }

    func close() {
        if self.descriptor >= 0 { Glibc.close(self.descriptor) }
        self.descriptor = -1
    }

    /// Sends the bytes, then reads until the server closes the connection.
    func exchange(_ request: String) throws -> String {
        self.send(request)
        var answer: [UInt8] = []
        while let bytes = try self.receive() { answer += bytes }
        return String(decoding: answer, as: UTF8.self)
    }

    /// Sends the bytes, then reads once. Empty if the server closed the connection.
    func firstBytes(of request: String) throws -> String {
        self.send(request)
        return String(decoding: try self.receive() ?? [], as: UTF8.self)
    }

    private func send(_ request: String) {
        let bytes = Array(request.utf8)
        Glibc.send(self.descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    }

    private func receive() throws -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = recv(self.descriptor, &bytes, bytes.count, 0)
        try #require(count >= 0 || errno == ECONNRESET, "nothing within five seconds")
        return count > 0 ? Array(bytes[..<count]) : nil
    }
}
