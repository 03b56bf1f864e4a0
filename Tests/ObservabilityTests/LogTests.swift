import FoundationEssentials
import Glibc
import Logging
import NIOCore
import Observability
import Testing

/// A log output that writes to a pipe.
final class PipedLog {
    let output: LogOutput
    let reading: Int32
    let writing: Int32

    init(_ form: LogOutput.Form, capacity: Int = 4 << 20) throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        self.reading = ends[0]
        self.writing = ends[1]
        self.output = LogOutput(descriptor: ends[1], form: form, capacity: capacity)
    }

    deinit {
        self.output.stop(seconds: 5)
        close(self.reading)
        close(self.writing)
    }

    func logger(_ level: Logger.Level = .trace) -> Logger {
        Logger(label: "test") { LineLogHandler(label: $0, level: level, output: self.output) }
    }

    /// Reads the lines logged so far, at most the capacity of a pipe.
    func text() -> String {
        #expect(self.output.flush(seconds: 5))
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = read(self.reading, &bytes, bytes.count)
        return String(decoding: bytes[..<max(0, count)], as: UTF8.self)
    }

    func json() throws -> Fields {
        let text = self.text()
        #expect(text.last == "\n" && text.dropLast().allSatisfy { $0 != "\n" })
        return try JSONDecoder().decode(Fields.self, from: Data(text.utf8))
    }
}

/// A JSON object whose values are read one by one.
struct Fields: Decodable {
    enum Value: Decodable, Equatable {
        case number(Double)
        case flag(Bool)
        case text(String)
        case list([Value])
        case object([String: Value])

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let flag = try? container.decode(Bool.self) {
                self = .flag(flag)
            } else if let number = try? container.decode(Double.self) {
                self = .number(number)
            } else if let text = try? container.decode(String.self) {
                self = .text(text)
            } else if let list = try? container.decode([Value].self) {
                self = .list(list)
            } else {
                self = .object(try container.decode([String: Value].self))
            }
        }
    }

    var values: [String: Value]

    init(from decoder: any Decoder) throws {
        self.values = try decoder.singleValueContainer().decode([String: Value].self)
    }

    subscript(key: String) -> Value? { self.values[key] }
}

@Suite("Log")
struct LogTests {
    private struct Failure: Error, CustomStringConvertible {
        var description: String { "it \"broke\"" }
    }

    @Test("A statement is written as one JSON line with its level, message and metadata")
    func json() throws {
        let log = try PipedLog(.json)
        var logger = log.logger()
        logger[metadataKey: "agent"] = "web"
        logger[metadataKey: "kept"] = "own"
        logger.warning(
            "tunnel \"lost\"",
            metadata: [
                "kept": "stated", "rtt": .stringConvertible(12), "ok": .stringConvertible(true),
                "list": ["a", ["b": "c"]],
            ]
        )
        let line = try log.json()
        #expect(line["level"] == .text("warning"))
        #expect(line["msg"] == .text("tunnel \"lost\""))
        #expect(line["logger"] == .text("test"))
        #expect(line["agent"] == .text("web"))
        #expect(line["kept"] == .text("stated"))
        #expect(line["rtt"] == .number(12))
        #expect(line["ok"] == .flag(true))
        #expect(line["list"] == .list([.text("a"), .object(["b": .text("c")])]))
        guard case .text(let time) = line["ts"] else {
            Issue.record("no time")
            return
        }
        #expect(abs(try Date(time, strategy: .iso8601WithFraction).timeIntervalSinceNow) < 60)
    }

    @Test("The error of a statement is a field, and metadata cannot replace the standard fields")
    func errors() throws {
        let log = try PipedLog(.json)
        log.logger().error("no", error: Failure(), metadata: ["level": "forged", "ts": "forged"])
        let line = try log.json()
        #expect(line["error"] == .text("it \"broke\""))
        #expect(line["level"] == .text("error"))
        #expect(line["_level"] == .text("forged"))
    }

    @Test("Statements below the level are not written")
    func level() throws {
        let log = try PipedLog(.json)
        log.logger(.warning).info("quiet")
        log.logger(.warning).warning("loud")
        #expect(try log.json()["msg"] == .text("loud"))
    }

    @Test(
        "Control characters cannot end a line or reach a terminal",
        arguments: [LogOutput.Form.json, .text],
        ["\n", "\r\n", "\u{1b}[2J", "\u{0}", "\u{7f}", "\u{9b}31m", "\u{2028}", "\u{2029}", "\"", "\\"]
    )
    func hostile(form: LogOutput.Form, text: String) throws {
        let log = try PipedLog(form)
        log.logger().info("got \(text)", metadata: ["foreign": "a\(text)b", "k\(text)": "v"])
        let line = log.text()
        #expect(line.unicodeScalars.last == "\n")
        for scalar in line.unicodeScalars.dropLast() {
            #expect(scalar.value >= 0x20 && !(0x7f...0x9f).contains(scalar.value))
            #expect(scalar.value != 0x2028 && scalar.value != 0x2029)
        }
        if form == .json {
            let fields = try JSONDecoder().decode(Fields.self, from: Data(line.utf8))
            #expect(fields["foreign"] == .text("a\(text)b"))
            #expect(fields["msg"] == .text("got \(text)"))
        }
    }

    @Test("Long texts are truncated between characters")
    func cap() throws {
        let log = try PipedLog(.json)
        log.logger().info("m", metadata: ["long": "x\(String(repeating: "é", count: 5_000))"])
        guard case .text(let long) = try log.json()["long"] else {
            Issue.record("no text")
            return
        }
        #expect(long.utf8.count <= 2_048 + 3)
        #expect(long.hasSuffix("é…"))
    }

    @Test("Deeply nested metadata is truncated")
    func depth() throws {
        let log = try PipedLog(.json)
        var value = Logger.MetadataValue.string("bottom")
        for _ in 0..<100 { value = .array([value]) }
        log.logger().info("m", metadata: ["deep": value])
        #expect(try log.json()["deep"] == .list([.list([.list([.list([.text("…")])])])]))
    }

    @Test("The text form quotes only values that need it")
    func text() throws {
        let log = try PipedLog(.text)
        log.logger().notice("listening", metadata: ["address": "127.0.0.1:80", "name": "two words", "none": ""])
        let line = log.text()
        #expect(line.hasSuffix(" NOTE  listening address=127.0.0.1:80 name=\"two words\" none=\"\"\n"))
        #expect(line.first?.isNumber == true)
    }

    @Test("Without a reader, lines are dropped and counted, and a notice follows afterwards")
    func dropping() throws {
        let log = try PipedLog(.json, capacity: 4_096)
        let logger = log.logger()
        // A pipe holds 64 KiB; lines beyond that and the capacity are dropped.
        for index in 0..<2_000 { logger.info("line", metadata: ["index": .stringConvertible(index)]) }
        let dropped = log.output.droppedLines
        #expect(dropped > 0)

        var text = ""
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        while !text.contains("log lines were dropped") {
            let count = read(log.reading, &bytes, bytes.count)
            try #require(count > 0)
            text += String(decoding: bytes[..<count], as: UTF8.self)
        }
        #expect(text.contains("\"dropped\":"))
        #expect(text.utf8.count < 64 * 1_024 + 3 * 4_096 + 1_024)
    }

    @Test("If the reader is gone, lines are lost and the process continues")
    func brokenPipe() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        close(ends[0])
        let output = LogOutput(descriptor: ends[1], form: .json)
        Logger(label: "x") { LineLogHandler(label: $0, level: .info, output: output) }.info("lost")
        #expect(output.flush(seconds: 5))
        #expect(output.droppedLines == 1)
        #expect(output.stop(seconds: 5))
        close(ends[1])
    }

    @Test("Lines of many tasks are written whole, each once")
    func concurrency() async throws {
        let log = try PipedLog(.json)
        let logger = log.logger()
        let reading = log.reading
        let reader = Task.detached { () -> String in
            var text: [UInt8] = []
            var bytes = [UInt8](repeating: 0, count: 1 << 16)
            while text.lazy.count(where: { $0 == UInt8(ascii: "\n") }) < 8_000 {
                let count = read(reading, &bytes, bytes.count)
                guard count > 0 else { break }
                text.append(contentsOf: bytes[..<count])
            }
            return String(decoding: text, as: UTF8.self)
        }
        await withTaskGroup(of: Void.self) { group in
            for task in 0..<8 {
                group.addTask {
                    for index in 0..<1_000 { logger.info("line", metadata: ["id": "\(task)-\(index)"]) }
                }
            }
        }
        let lines = await reader.value.split(separator: "\n")
        let ids = try lines.map { try JSONDecoder().decode(Fields.self, from: Data($0.utf8)).values["id"] }
        #expect(log.output.droppedLines == 0)
        #expect(ids.count == 8_000)
        #expect(Set(ids.map { "\($0.debugDescription)" }).count == 8_000)
    }

    @Test(
        "Times of the calendar's corners are right",
        arguments: [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.007Z"),
            (1_735_689_599, "2024-12-31T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ]
    )
    func timestamps(seconds: Int, expected: String) {
        #expect(LogTimestamp.text(seconds: seconds, milliseconds: 7) == expected)
    }
}

extension ParseStrategy where Self == Date.ISO8601FormatStyle {
    static var iso8601WithFraction: Self { .init(includingFractionalSeconds: true) }
}
