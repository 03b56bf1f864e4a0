import Logging

/// How lines look.
package enum LogFormat: String, CaseIterable, Sendable {
    /// ``text`` on a terminal, ``json`` elsewhere.
    case auto
    /// One JSON object a line: `ts`, `level`, `msg`, then the metadata.
    case json
    /// One line for people: time, level, message, then `key=value`.
    case text
}

/// Where all lines of a process go, and in which form; shared by the loggers and the access log.
package final class LogOutput: Sendable {
    package enum Form: Sendable {
        case json
        case text
    }

    package let form: Form
    let writer: LineWriter

    /// The descriptor stays the caller's. Tests make their own; a process has one, from ``LoggingSetup``.
    package init(descriptor: Int32, form: Form, capacity: Int = 4 << 20) {
        self.form = form
        self.writer = LineWriter(descriptor: descriptor, capacity: capacity) { dropped in
            let metadata: Logger.Metadata = ["dropped": .stringConvertible(dropped)]
            return LogLine.build(form: form, level: .warning, message: "log lines were dropped", metadata: metadata)
        }
    }

    /// Waits until everything logged so far has been written; at most `seconds`.
    @discardableResult
    package func flush(seconds: Int = 1) -> Bool {
        self.writer.flush(seconds: seconds)
    }

    /// Writes what was logged and ends the writer's thread; later lines are dropped.
    @discardableResult
    package func stop(seconds: Int = 1) -> Bool {
        self.writer.stop(seconds: seconds)
    }

    /// Lines lost because the reader of the log was too slow or gone.
    package var droppedLines: Int { self.writer.dropped }

    /// Shows ``droppedLines`` as `log_lines_dropped_total`.
    package func register(in metrics: MetricsRegistry) {
        metrics.collectedCounter(
            "log_lines_dropped_total",
            help: "Log lines lost because they were written faster than they were read."
        ) { Double(self.droppedLines) }
    }
}
