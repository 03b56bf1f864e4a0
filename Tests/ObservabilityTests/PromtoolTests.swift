import Glibc
import NIOCore
import Observability
import TestSupport
import Testing

@Suite("promtool")
struct PromtoolTests {
    @Test("`promtool check metrics` accepts the exposition")
    func clean() throws {
        let metrics = MetricsRegistry(namespace: "hopgate")
        metrics.registerProcessMetrics(build: [("version", "1.2.3")])
        metrics.counter("http_requests_total", help: "Requests.", labels: [("code", "200"), ("method", "GET")])
            .increment()
        metrics.counter("http_requests_total", help: "Requests.", labels: [("code", "\"\\\n"), ("method", "é")])
            .increment()
        metrics.gauge("http_requests_in_flight", help: "Requests in flight.").set(-1)
        metrics.histogram("http_request_duration_seconds", help: "Durations.").observe(.milliseconds(3))
        metrics.histogram(
            "tunnel_rtt_seconds",
            help: "Round trips.",
            buckets: .shortDurations,
            labels: [("via", "udp")]
        )
        .observe(.microseconds(70))
        metrics.collectedGauge("ratio", help: "A\\B\nC") { 1e-9 }
        metrics.collectedGauge("not_a_number", help: "NaN.") { .nan }
        metrics.collectedGauge("infinity", help: "Infinity.") { -.infinity }

        var text = ByteBuffer()
        metrics.write(into: &text)
        let result = try Self.promtool(Array(text.readableBytesView))
        #expect(result.output == "")
        #expect(result.status == 0)
    }

    @Test("The check itself rejects a bad exposition")
    func dirty() throws {
        let result = try Self.promtool(Array("# TYPE a counter\na 1\n".utf8))
        #expect(result.status != 0)
    }

    /// Runs `promtool check metrics` on `input`.
    private static func promtool(_ input: [UInt8]) throws -> (output: String, status: Int32) {
        let folder = ScratchFolder()
        defer { folder.remove() }
        let path = folder.write("metrics", input)
        let pipe = try #require(popen("promtool check metrics < \(path) 2>&1", "r"))
        var output: [UInt8] = []
        while case let byte = fgetc(pipe), byte != EOF { output.append(UInt8(truncatingIfNeeded: byte)) }
        return (String(decoding: output, as: UTF8.self), pclose(pipe))
    }
}
