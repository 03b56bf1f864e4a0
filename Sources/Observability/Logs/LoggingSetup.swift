import Glibc
package import Logging
import Synchronization

/// The logging setup of the process.
package enum LoggingSetup {
    private static let current = Mutex<LogOutput?>(nil)

    /// The process's log output, which the access log shares; `nil` before ``bootstrap(level:format:descriptor:)``.
    package static var output: LogOutput? { current.withLock { $0 } }

    /// Directs all loggers of the process to `descriptor`. Called once, before the first logger is created.
    ///
    /// Buffered lines are still written when the process ends by `exit`. Code that ends it in another way calls
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
        current.withLock { $0 = output }
        LoggingSystem.bootstrap { label in LineLogHandler(label: label, level: level, output: output) }
        atexit { LoggingSetup.output?.flush() }
        return output
    }
}
