import Glibc
package import Logging
import Synchronization

/// Sets up logging for the process.
package enum LoggingSetup {
    private static let current = Mutex<LogOutput?>(nil)

    /// Where the process's log goes, for the access log; `nil` before ``bootstrap(level:format:descriptor:)``.
    package static var output: LogOutput? { self.current.withLock { $0 } }

    /// Sends every logger of the process to `descriptor`; to be called once, before the first logger is made.
    ///
    /// What was logged is still written when the process ends by `exit`; whoever ends it in another way calls
    /// ``LogOutput/flush(seconds:)`` first.
    @discardableResult
    package static func bootstrap(
        level: Logger.Level,
        format: LogFormat = .auto,
        descriptor: Int32 = STDERR_FILENO
    ) -> LogOutput {
        let form: LogOutput.Form =
            switch format {
            case .auto: isatty(descriptor) == 1 ? .text : .json
            case .json: .json
            case .text: .text
            }
        let output = LogOutput(descriptor: descriptor, form: form)
        self.current.withLock { $0 = output }
        LoggingSystem.bootstrap { label in LineLogHandler(label: label, level: level, output: output) }
        atexit { LoggingSetup.output?.flush() }
        return output
    }
}
