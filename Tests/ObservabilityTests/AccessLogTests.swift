import FoundationEssentials
import NIOCore
import Observability
import Testing

@Suite("Access log")
struct AccessLogTests {
    private var record: AccessRecord {
        AccessRecord(
            requestID: "0123456789abcdef",
            client: "192.0.2.1:5000",
            agent: "web",
            service: "app",
            route: "app.test/",
            method: "GET",
            host: "app.test",
            path: "/a?b=c",
            status: 200,
            bytesIn: 0,
            bytesOut: 1_024,
            duration: .microseconds(12_345),
            timeToFirstByte: .microseconds(900)
        )
    }

    @Test("A request is written as one JSON line")
    func json() throws {
        let log = try PipedLog(.json)
        AccessLog(output: log.output).write(record)
        let line = try log.json()
        let expected: [String: Fields.Value] = [
            "level": .text("info"), "msg": .text("request"), "request_id": .text("0123456789abcdef"),
            "client": .text("192.0.2.1:5000"), "agent": .text("web"), "service": .text("app"),
            "route": .text("app.test/"), "method": .text("GET"), "host": .text("app.test"),
            "path": .text("/a?b=c"), "protocol": .text("HTTP/1.1"), "status": .number(200), "bytes_in": .number(0),
            "bytes_out": .number(1_024), "duration_ms": .number(12.345), "ttfb_ms": .number(0.9),
        ]
        #expect(line.values.filter { $0.key != "ts" } == expected)
    }

    @Test("A client's texts cannot forge a line or a field, and are truncated")
    func hostile() throws {
        let log = try PipedLog(.json)
        var record = self.record
        record.path = "/\",\"status\":500}\n{\u{1b}" + String(repeating: "x", count: 100_000)
        record.host = "h\r\nX"
        record.status = 404
        record.error = "NOT_FOUND"
        AccessLog(output: log.output).write(record)
        let line = try log.json()
        #expect(line["status"] == .number(404))
        #expect(line["error"] == .text("NOT_FOUND"))
        #expect(line["host"] == .text("h\r\nX"))
        guard case .text(let path) = line["path"] else {
            Issue.record("no path")
            return
        }
        #expect(path.utf8.count == AccessLog.pathLimit + 3)
    }

    @Test("A request is written as one line of text")
    func text() throws {
        let log = try PipedLog(.text)
        AccessLog(output: log.output).write(record)
        #expect(
            log.text().hasSuffix(
                " INFO  GET app.test/a?b=c 200 12.345ms in=0 out=1024 agent=web service=app client=192.0.2.1:5000"
                    + " request_id=0123456789abcdef\n"
            )
        )
    }
}
