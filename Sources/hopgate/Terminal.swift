import ArgumentParser
import Formats
import Glibc
import Settings

/// Output of commands. Results go to standard output with `print`; messages go to standard error with these functions.
enum Terminal {
    static func error(_ message: String, prefix: String = "hopgate: ") {
        info(prefix + message)
    }

    /// Writes a message to standard error.
    static func info(_ message: String) {
        var bytes = Array((message + "\n").utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
            guard count > 0 else { return }
            bytes = bytes.dropFirst(count)
        }
    }

    /// The value as JSON on one line.
    static func json(_ value: JSONValue) -> String { String(decoding: value.json, as: UTF8.self) }

    /// A table whose columns are padded to their widest cell and separated by two spaces, without trailing spaces.
    static func table(_ rows: [[String]]) -> String {
        var widths: [Int] = []
        for row in rows {
            for (column, cell) in row.enumerated() {
                if column == widths.count { widths.append(0) }
                widths[column] = max(widths[column], cell.count)
            }
        }
        return rows.map { row in
            row.enumerated().map { column, cell in
                column == row.count - 1 ? cell : cell + String(repeating: " ", count: widths[column] - cell.count)
            }
            .joined(separator: "  ")
        }
        .joined(separator: "\n")
    }

    /// Parses the duration of a flag, such as 30s, of at most a day.
    static func duration(_ text: String, flag: String) throws -> Duration {
        do {
            return try Scalars.duration(text, in: .zero ... .seconds(86_400))
        } catch {
            throw ValidationError("\(flag): \(error.what). \(error.remedy)")
        }
    }
}
