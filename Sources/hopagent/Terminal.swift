import Glibc

/// Standard error, for messages of a command. Results go to standard output by `print`.
enum Terminal {
    static func error(_ message: String, prefix: String = "hopagent: ") {
        var bytes = Array((prefix + message + "\n").utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
            guard count > 0 else { return }
            bytes = bytes.dropFirst(count)
        }
    }
}
