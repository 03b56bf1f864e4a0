import Foundation

/// A folder of a test's own, removed with it.
final class Scratch: Sendable {
    let path: String

    init() {
        path = NSTemporaryDirectory() + "hopgate-certificates-\(UUID().uuidString)"
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { "\(path)/\(name)" }

    @discardableResult
    func write(_ name: String, _ bytes: [UInt8], mode: Int = 0o600) -> String {
        _ = FileManager.default.createFile(
            atPath: file(name),
            contents: Data(bytes),
            attributes: [.posixPermissions: mode]
        )
        return file(name)
    }

    func write(_ name: String, _ text: String, mode: Int = 0o600) -> String {
        write(name, Array(text.utf8), mode: mode)
    }

    func read(_ name: String) -> [UInt8] { FileManager.default.contents(atPath: file(name)).map(Array.init) ?? [] }

    func mode(_ name: String) -> Int? {
        let attributes = try? FileManager.default.attributesOfItem(atPath: name.isEmpty ? path : file(name))
        return (attributes?[.posixPermissions] as? NSNumber)?.intValue
    }

    func names(_ folder: String) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: file(folder))) ?? []).sorted()
    }

    func link(_ name: String, to target: String) {
        try! FileManager.default.createSymbolicLink(atPath: file(name), withDestinationPath: target)
    }
}

/// Waits until the condition holds; false after the deadline.
func eventually(
    within limit: Duration = .seconds(20),
    _ condition: () async throws -> Bool
) async rethrows -> Bool {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < deadline else { return false }
        try? await Task.sleep(for: .milliseconds(5))
    }
    return true
}

/// Runs a program to its end; standard output and error in one text.
func run(_ program: String, _ arguments: [String]) throws -> (status: Int32, output: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: output, as: UTF8.self))
}
