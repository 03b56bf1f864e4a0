package import Logging

/// The swift-log backend: writes one line per statement, as JSON or text, to a ``LogOutput``.
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
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    /// Writes one statement. Its own metadata takes precedence over the logger's, and the logger's over the provider's.
    package func log(event: LogEvent) {
        var metadata = metadata
        if let provided = metadataProvider?.get() {
            metadata.merge(provided) { own, _ in own }
        }
        if let stated = event.metadata {
            metadata.merge(stated) { _, stated in stated }
        }
        output.writer.write(
            LogLine.build(
                form: output.form,
                level: event.level,
                message: event.message.description,
                label: label,
                metadata: metadata,
                error: event.error
            )
        )
    }
}
