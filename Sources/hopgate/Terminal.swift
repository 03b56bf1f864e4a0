import ArgumentParser
import Formats
import Glibc
import Settings
import Store

/// Output of commands: results go to standard output, messages to standard error.
enum Terminal {
    /// Writes a result to standard output.
    ///
    /// - Throws: A failure if it was not written completely, such as on a full disk, so that no command that was to
    ///   print a secret or a certificate succeeds without it.
    static func print(_ text: String, terminator: String = "\n") throws {
        guard write(text + terminator, to: STDOUT_FILENO) else { throw incomplete("standard output") }
        // A full disk or a lost server may show up only now. Pipes and terminals cannot be flushed.
        guard fsync(STDOUT_FILENO) == 0 || errno == EINVAL || errno == EROFS || errno == ENOTSUP else {
            throw incomplete("standard output")
        }
    }

    /// Writes a result as one line of JSON.
    static func print(_ fields: [String: JSONValue]) throws { try print(.object(fields)) }
    static func print(_ value: JSONValue) throws { try print(json(value)) }

    /// Writes a result as a table; see ``table(_:)``.
    static func print(table rows: [[String]]) throws { try print(table(rows)) }

    /// Writes a message that has a part of the result, such as a join string, to standard error.
    static func require(info message: String) throws {
        guard write(message + "\n", to: STDERR_FILENO) else { throw incomplete("standard error") }
    }

    private static func incomplete(_ place: String) -> Failure {
        Failure("\(place): \(String(cString: strerror(errno))); the output is incomplete")
    }

    /// Writes a text. Returns whether that succeeded; `errno` has the reason if not.
    private static func write(_ text: String, to number: Int32) -> Bool {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Glibc.write(number, $0.baseAddress, $0.count) }
            if count < 0 {
                guard errno == EINTR else { return false }
                continue
            }
            bytes = bytes.dropFirst(count)
        }
        return true
    }

    static func error(_ message: String, prefix: String = "hopgate: ") {
        info(prefix + message)
    }

    /// Writes a message to standard error, if that is possible.
    static func info(_ message: String) {
        _ = write(message + "\n", to: STDERR_FILENO)
    }

    /// Reports a wait for a lease on standard error.
    @Sendable
    static func reportWait(_ wait: LeaseWait) { info("Waiting for \(wait).") }

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
