import ArgumentParser
import Formats
import Glibc
import Settings

/// What a command says: results go to standard output by `print`, everything else here, to standard error.
enum Terminal {
    static func error(_ message: String, prefix: String = "hopgate: ") {
        note(prefix + message)
    }

    static func note(_ message: String) {
        var bytes = Array((message + "\n").utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
            guard count > 0 else { return }
            bytes = bytes.dropFirst(count)
        }
    }

    /// On one line, as scripts read it.
    static func json(_ value: JSONValue) -> String { String(decoding: value.json, as: UTF8.self) }

    /// Columns padded to the widest cell of each, two spaces between; no padding at the end of a line.
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

    /// A duration that a flag gives, such as 30s; up to a day.
    static func duration(_ text: String, flag: String) throws -> Duration {
        do {
            return try Scalars.duration(text, in: .zero ... .seconds(86_400))
        } catch {
            throw ValidationError("\(flag): \(error.what). \(error.remedy)")
        }
    }
}
