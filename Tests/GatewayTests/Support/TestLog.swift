import FoundationEssentials
import Glibc
import Logging
import Observability
import TestSupport

/// The log and the access lines of a gateway, in a file of its own.
final class TestLog: Sendable {
    let output: LogOutput
    private let folder = ScratchFolder()
    private let path: String
    private let descriptor: Int32

    init() throws {
        path = folder.file("log")
        descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw CocoaError(.fileWriteUnknown) }
        output = LogOutput(descriptor: descriptor, form: .json)
    }

    deinit {
        output.stop()
        Glibc.close(descriptor)
    }

    var logger: Logger {
        Logger(label: "test") { [output] in LineLogHandler(label: $0, level: .info, output: output) }
    }

    /// All lines so far.
    var lines: [Substring] {
        get throws {
            output.flush()
            return String(decoding: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self).split(
                separator: "\n"
            )
        }
    }
}
