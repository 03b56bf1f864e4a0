import Formats
import Logging

/// The formatter of log statements.
enum LogLine {
    /// The depth up to which nested arrays and dictionaries in metadata are written.
    private static let depthLimit = 4
    /// The keys that every line has. A metadata key of the same name is prefixed with an underscore.
    private static let reserved: Set<String> = ["ts", "level", "msg", "logger"]

    static func build(
        form: LogOutput.Form,
        level: Logger.Level,
        message: String,
        label: String = "",
        metadata: Logger.Metadata,
        error: (any Error)? = nil
    ) -> [UInt8] {
        var metadata = metadata
        if let error { metadata["error"] = .string("\(error)") }
        // Sorted, so that equal statements produce equal lines.
        let sorted = metadata.sorted { $0.key < $1.key }
        var line = LineBuilder()
        switch form {
        case .json: json(&line, level, message, label, sorted)
        case .text: text(&line, level, message, sorted)
        }
        line.append(UInt8(ascii: "\n"))
        return line.bytes
    }

    private static func json(
        _ line: inout LineBuilder,
        _ level: Logger.Level,
        _ message: String,
        _ label: String,
        _ metadata: [(key: String, value: Logger.MetadataValue)]
    ) {
        line.append(literal: "{\"ts\":\"")
        line.appendTimestamp()
        line.append(literal: "\",\"level\":\"")
        line.append(unescaped: level.rawValue)
        line.append(literal: "\",\"msg\":")
        line.append(quoted: message, limit: LineBuilder.messageLimit)
        if !label.isEmpty {
            line.append(literal: ",\"logger\":")
            line.append(quoted: label)
        }
        for (key, value) in metadata {
            line.append(UInt8(ascii: ","))
            line.append(quoted: reserved.contains(key) ? "_\(key)" : key)
            line.append(UInt8(ascii: ":"))
            json(&line, value, depth: 0)
        }
        line.append(UInt8(ascii: "}"))
    }

    private static func json(_ line: inout LineBuilder, _ value: Logger.MetadataValue, depth: Int) {
        switch value {
        case .string(let text): line.append(quoted: text)
        case .stringConvertible(let number as any FixedWidthInteger): line.append(unescaped: "\(number)")
        case .stringConvertible(let flag as Bool): line.append(unescaped: flag ? "true" : "false")
        case .stringConvertible(let other): line.append(quoted: other.description)
        case .array where depth >= Self.depthLimit, .dictionary where depth >= Self.depthLimit:
            line.append(literal: "\"\u{2026}\"")
        case .array(let values):
            line.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { line.append(UInt8(ascii: ",")) }
                json(&line, value, depth: depth + 1)
            }
            line.append(UInt8(ascii: "]"))
        case .dictionary(let values):
            line.append(UInt8(ascii: "{"))
            for (index, (key, value)) in values.sorted(by: { $0.key < $1.key }).enumerated() {
                if index > 0 { line.append(UInt8(ascii: ",")) }
                line.append(quoted: key)
                line.append(UInt8(ascii: ":"))
                json(&line, value, depth: depth + 1)
            }
            line.append(UInt8(ascii: "}"))
        }
    }

    private static func text(
        _ line: inout LineBuilder,
        _ level: Logger.Level,
        _ message: String,
        _ metadata: [(key: String, value: Logger.MetadataValue)]
    ) {
        line.appendTimestamp()
        line.append(UInt8(ascii: " "))
        append(level, to: &line)
        line.append(UInt8(ascii: " "))
        line.append(escaped: message, limit: LineBuilder.messageLimit)
        for (key, value) in metadata {
            line.append(UInt8(ascii: " "))
            line.append(escaped: key)
            line.append(UInt8(ascii: "="))
            line.append(value: value.description)
        }
    }

    /// Appends the level, padded to five columns so that messages are aligned.
    static func append(_ level: Logger.Level, to line: inout LineBuilder) {
        switch level {
        case .trace: line.append(literal: "TRACE")
        case .debug: line.append(literal: "DEBUG")
        case .info: line.append(literal: "INFO ")
        case .notice: line.append(literal: "NOTE ")
        case .warning: line.append(literal: "WARN ")
        case .error: line.append(literal: "ERROR")
        case .critical: line.append(literal: "FATAL")
        }
    }
}

extension LineBuilder {
    /// Appends a value of the text form, quoted only if it would be ambiguous without.
    mutating func append(value text: String) {
        let isPlain =
            !text.isEmpty
            && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "=") }
        if isPlain {
            append(escaped: text)
        } else {
            append(quoted: text)
        }
    }
}
