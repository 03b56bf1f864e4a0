import Logging

/// The configured format of log lines.
package enum LogFormat: String, CaseIterable, Sendable {
    /// ``text`` if the output is a terminal, else ``json``.
    case auto
    /// One JSON object per line: `ts`, `level`, `msg`, then the metadata.
    case json
    /// Human-readable lines: time, level, message, then `key=value`.
    case text
}

/// The destination and the form of all log lines of a process, shared by the loggers and the access log.
package final class LogOutput: Sendable {
    package enum Form: Sendable {
        case json
        case text
    }

    package let form: Form
    let writer: LineWriter

    /// Creates an output. The caller keeps the descriptor open. A process has one output, made by ``LoggingSetup``;
    /// tests create their own.
    package init(descriptor: Int32, form: Form, capacity: Int = 4 << 20) {
        self.form = form
        self.writer = LineWriter(descriptor: descriptor, capacity: capacity) { dropped in
            let metadata: Logger.Metadata = ["dropped": .stringConvertible(dropped)]
            return LogLine.build(form: form, level: .warning, message: "log lines were dropped", metadata: metadata)
        }
    }

    /// Waits at most `seconds` until all lines logged so far have been written.
    @discardableResult
    package func flush(seconds: Int = 1) -> Bool {
        writer.flush(seconds: seconds)
    }

    /// Writes the buffered lines and ends the writer's thread. Later lines are dropped.
    @discardableResult
    package func stop(seconds: Int = 1) -> Bool {
        writer.stop(seconds: seconds)
    }

    /// The number of lines lost because the reader of the log was too slow or gone.
    package var droppedLines: Int { writer.dropped }

    /// Exposes ``droppedLines`` as `log_lines_dropped_total`.
    package func register(in metrics: MetricsRegistry) {
        metrics.collectedCounter(
            "log_lines_dropped_total",
            help: "Log lines lost because they were written faster than they were read."
        ) { Double(self.droppedLines) }
    }
}
