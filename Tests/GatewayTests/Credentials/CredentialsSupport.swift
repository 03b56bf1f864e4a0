import Foundation
import Gateway
import Logging
import NIOCore
import Synchronization

/// A data folder of a test's own, removed with it.
final class DataFolder: Sendable {
    let path: String

    init() {
        path = NSTemporaryDirectory() + "hopgate-credentials-\(UUID().uuidString)"
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    var folder: CredentialFolder { CredentialFolder(dataDirectory: path) }

    func file(_ id: String) -> String { "\(path)/agents/\(id).json" }

    func text(_ id: String) -> String {
        FileManager.default.contents(atPath: file(id)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }

    func write(_ id: String, _ text: String, mode: Int = 0o600) {
        let attributes: [FileAttributeKey: Any] = [.posixPermissions: mode]
        _ = FileManager.default.createFile(atPath: file(id), contents: Data(text.utf8), attributes: attributes)
    }

    func edit(_ id: String, _ old: String, _ new: String) {
        write(id, text(id).replacingOccurrences(of: old, with: new))
    }

    func mode(_ path: String) -> Int? {
        ((try? FileManager.default.attributesOfItem(atPath: path))?[.posixPermissions] as? NSNumber)?.intValue
    }
}

/// Remembers the lines that a store logs.
final class LogLines: Sendable {
    let lines = Mutex<[String]>([])

    var logger: Logger {
        Logger(label: "test") { _ in Handler(owner: self) }
    }

    var all: [String] { lines.withLock { $0 } }

    private struct Handler: LogHandler {
        let owner: LogLines
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            owner.lines.withLock { $0.append("\(event.message) \(event.metadata ?? [:])") }
        }
    }
}

/// Waits until the condition holds; false after the deadline.
func becomesTrue(within limit: Duration = .seconds(20), _ condition: () -> Bool) async -> Bool {
    let deadline = ContinuousClock.now + limit
    while !condition() {
        guard ContinuousClock.now < deadline else { return false }
        try? await Task.sleep(for: .milliseconds(5))
    }
    return true
}

extension CredentialVerdict {
    var isGranted: Bool {
        if case .granted = self { true } else { false }
    }

    var refusal: CredentialRefusal? {
        if case .refused(let refusal, _) = self { refusal } else { nil }
    }

    var wait: TimeAmount? {
        if case .refused(_, let wait) = self { wait } else { nil }
    }
}
