package import Logging

/// The swift-log backend: one line a statement, JSON or text, through a ``LogOutput``.
package struct LineLogHandler: LogHandler {
    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?

    private let label: String
    private let output: LogOutput

    package init(label: String, level: Logger.Level, output: LogOutput) {
        self.label = label
        self.logLevel = level
        self.output = output
    }

    package subscript(metadataKey key: String) -> Logger.MetadataValue? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    /// What the statement says wins over the logger's own metadata, and that over the provider's.
    package func log(event: LogEvent) {
        var metadata = self.metadata
        if let provided = self.metadataProvider?.get() {
            metadata.merge(provided) { own, _ in own }
        }
        if let stated = event.metadata {
            metadata.merge(stated) { _, stated in stated }
        }
        self.output.writer.write(
            LogLine.build(
                form: self.output.form,
                level: event.level,
                message: event.message.description,
                label: self.label,
                metadata: metadata,
                error: event.error
            )
        )
    }
}
