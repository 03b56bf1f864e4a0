import Formats
import FoundationEssentials
import NIOCore
import Observability
import Testing

@Suite("Metrics")
struct MetricsTests {
    enum Reason: String, CaseIterable {
        case wrongSecret = "wrong_secret"
        case revoked
    }

    private func text(_ metrics: MetricsRegistry) -> String {
        var buffer = ByteBuffer()
        metrics.write(into: &buffer)
        return String(buffer: buffer)
    }

    @Test("A counter is exposed with its help, type and value")
    func counter() {
        let metrics = MetricsRegistry(namespace: "test")
        let counter = metrics.counter("events_total", help: "Events seen.")
        counter.increment()
        counter.increment(by: 41)
        #expect(
            text(metrics)
                == "# HELP test_events_total Events seen.\n# TYPE test_events_total counter\ntest_events_total 42\n"
        )
    }

    @Test("Series of one name are adjacent, in any order of registration")
    func families() {
        let metrics = MetricsRegistry(namespace: "test")
        metrics.counter("a_total", help: "A.", labels: [("code", "200")]).increment()
        metrics.gauge("b", help: "B.").set(-3)
        metrics.counter("a_total", help: "A.", labels: [("code", "404")]).increment(by: 2)
        #expect(
            text(metrics) == """
                # HELP test_a_total A.
                # TYPE test_a_total counter
                test_a_total{code="200"} 1
                test_a_total{code="404"} 2
                # HELP test_b B.
                # TYPE test_b gauge
                test_b -3

                """
        )
    }

    @Test("The same name and labels return the same counter")
    func sameSeries() {
        let metrics = MetricsRegistry(namespace: "test")
        let first = metrics.counter("a_total", help: "A.", labels: [("code", "200")])
        let second = metrics.counter("a_total", help: "A.", labels: [("code", "200")])
        #expect(first === second)
    }

    @Test("A table of counters exposes every case from the start")
    func table() {
        let metrics = MetricsRegistry(namespace: "test")
        let failures = metrics.counters("failures_total", help: "F.", label: "reason", by: Reason.self)
        failures[.revoked].increment()
        #expect(text(metrics).contains("test_failures_total{reason=\"wrong_secret\"} 0\n"))
        #expect(text(metrics).contains("test_failures_total{reason=\"revoked\"} 1\n"))
    }

    @Test("The sum of a histogram exceeds what an integer of 64 bits holds")
    func largeSum() {
        let histogram = MetricsRegistry(namespace: "test").histogram("h", help: "H.", buckets: .numbers([1]))
        var expected = 0.0
        for _ in 0..<7 {
            histogram.observe(Int.max)
            expected += 0x1p63
            #expect(abs(histogram.sum - expected) <= 0x1p12)
        }
    }

    @Test("A histogram is cumulative, and its count equals its last bucket")
    func histogram() {
        let metrics = MetricsRegistry(namespace: "test")
        let histogram = metrics.histogram(
            "wait_seconds",
            help: "W.",
            buckets: .durations([.milliseconds(1), .milliseconds(250)])
        )
        histogram.observe(.milliseconds(1))
        histogram.observe(.microseconds(1_001))
        histogram.observe(.seconds(2))
        #expect(
            text(metrics) == """
                # HELP test_wait_seconds W.
                # TYPE test_wait_seconds histogram
                test_wait_seconds_bucket{le="0.001"} 1
                test_wait_seconds_bucket{le="0.25"} 2
                test_wait_seconds_bucket{le="+Inf"} 3
                test_wait_seconds_sum 2.002001
                test_wait_seconds_count 3

                """
        )
    }

    @Test("Collected families are read at each scrape, and omitted without samples")
    func collected() {
        let metrics = MetricsRegistry(namespace: "test")
        let source = metrics.gauge("source", help: "S.")
        metrics.collect("copy", .gauge, help: "C.", labelNames: ["name"]) { samples in
            if source.value > 0 { samples.add(Double(source.value) / 2, ["x"]) }
        }
        #expect(!text(metrics).contains("test_copy"))
        source.set(3)
        #expect(text(metrics).contains("test_copy{name=\"x\"} 1.5\n"))
    }

    @Test("Quotes, backslashes and newlines in help and label values are escaped")
    func escaping() {
        let metrics = MetricsRegistry(namespace: "test")
        metrics.gauge("g", help: "A \"b\"\\\nc.", labels: [("name", "x\"\\\ny")]).set(1)
        #expect(
            text(metrics) == """
                # HELP test_g A "b"\\\\\\nc.
                # TYPE test_g gauge
                test_g{name="x\\"\\\\\\ny"} 1

                """
        )
    }

    @Test("Label sets beyond the bound share one series")
    func bound() {
        let metrics = MetricsRegistry(namespace: "test")
        for index in 0..<MetricsRegistry.maximumSeries + 10 {
            metrics.counter("a_total", help: "A.", labels: [("name", "n\(index)")]).increment()
        }
        #expect(text(metrics).split(separator: "\n").count == 2 + MetricsRegistry.maximumSeries + 1)
        #expect(text(metrics).contains("test_a_total{name=\"other\"} 10\n"))
    }

    @Test("Concurrent increments are not lost")
    func concurrency() async {
        let metrics = MetricsRegistry(namespace: "test")
        let histogram = metrics.histogram("h", help: "H.", buckets: .numbers([10]))
        let counter = metrics.counter("c_total", help: "C.")
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    for value in 0..<10_000 {
                        counter.increment()
                        histogram.observe(value % 20)
                    }
                }
            }
        }
        #expect(counter.value == 80_000)
        #expect(histogram.counts == [44_000, 36_000])
        #expect(histogram.sum == 760_000)
    }

    @Test(
        "A metric that breaks the naming rules stops the process at registration",
        arguments: ["", "with-dash", "1digit", "plain", "é_total", "a:b_total"]
    )
    func names(name: String) async {
        await #expect(processExitsWith: .failure) { [name] in
            _ = MetricsRegistry(namespace: "test").counter(name, help: "H.")
        }
    }

    @Test("The kernel's facts about this process are exposed")
    func process() throws {
        let metrics = MetricsRegistry(namespace: "test")
        metrics.registerProcessMetrics(build: [("version", "1.2.3")])
        let shown = text(metrics)
        #expect(shown.contains("test_build_info{version=\"1.2.3\"} 1\n"))
        for name in ["cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "open_fds"] {
            let line = try #require(shown.split(separator: "\n").first { $0.hasPrefix("process_\(name) ") })
            #expect(try #require(Double(line.split(separator: " ")[1])) > 0)
        }
        let start = try #require(shown.split(separator: "\n").first { $0.hasPrefix("process_start_time_seconds ") })
        let seconds = try #require(Double(start.split(separator: " ")[1]))
        #expect(abs(Date().timeIntervalSince1970 - seconds) < 3_600)
    }
}
